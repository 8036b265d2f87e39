"""objective=scst: self-critical sequence training (Rennie et al., CVPR 2017) on a reward of our own metrics.

For each study reports are sampled from the model. The loss is the nats of a sampled report times its advantage: its
reward minus that of the greedy report, or minus the mean reward of the study's other samples, and minus the mean over
the step. It starts from a trained run (trainer.start). A sample depends on the weights and on (seed, step, study),
never on the batch.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch.nn.utils.rnn import pad_sequence

from r2gen.config.decoding import Decoding
from r2gen.data.collate import NO_TARGET, Batch
from r2gen.errors import UserError
from r2gen.evaluate.reward import Reward
from r2gen.lm.causal import evaluation_mode
from r2gen.lm.protocol import DecodingPlan, Generated, Prompts
from r2gen.model.report_generator import ReportGenerator, StepLoss
from r2gen.ranks import dist
from r2gen.train.objectives.objective import Step, TrainingParts, check_number

# B batch, K samples of a study, L tokens of a sample
MOST_SAMPLES = 64


class SelfCritical:
    """Self-critical training.

    `cider`, `findings` and `bleu_4` are the weights of the reward's parts: CIDEr (0 to 10) with the document
    frequencies of the training reports, F1 of the labeler's findings in one report (0 to 1), and BLEU-4 of one report
    (0 to 1). `baseline` is the reward that is subtracted: of the greedy report, or the mean of the other `samples` of
    the same study. `cross_entropy` is the weight of the report loss, which keeps the language fluent.
    """

    generates = True
    encoder_only = False

    def __init__(
        self,
        *,
        cider: float = 1.0,
        findings: float = 1.0,
        bleu_4: float = 0.0,
        baseline: Literal["greedy", "samples"] = "greedy",
        samples: int = 1,
        temperature: float = 1.0,
        cross_entropy: float = 0.1,
    ) -> None:
        for option, value in (("cider", cider), ("findings", findings), ("bleu_4", bleu_4)):
            check_number(option, value)
        check_number("cross_entropy", cross_entropy)
        check_number("temperature", temperature, at_least=0.01, at_most=100)
        check_number("samples", samples, at_least=1, at_most=MOST_SAMPLES)
        if not cider + findings + bleu_4:
            raise UserError("objective=scst: cider, findings and bleu_4 are all 0: give one of them a weight")
        if baseline == "samples" and samples < 2:
            raise UserError("objective.baseline=samples compares samples of a study: give objective.samples=2 or more")
        self.weights = {"cider": cider, "findings": findings, "bleu_4": bleu_4}
        self.baseline, self.samples, self.cross_entropy = baseline, samples, cross_entropy
        self.temperature = temperature
        self._figures: dict[str, float] = {}

    def prepare(self, parts: TrainingParts) -> None:
        self.keeps_slots = parts.keeps_slots
        self.eos_id = parts.model.lm.tokenizer.eos_id
        self.greedy = Decoding(max_new_tokens=parts.max_new_tokens)
        self.sampling = Decoding(
            max_new_tokens=parts.max_new_tokens, do_sample=True, temperature=self.temperature, seed=parts.seed
        )
        self.reward = Reward({study.id: study.report for study in parts.studies}, **self.weights)
        if dist.is_first():
            reward = " + ".join(f"{weight:g} {name}" for name, weight in self.weights.items() if weight)
            of = "the greedy report" if self.baseline == "greedy" else "the study's other samples"
            print(
                f"objective=scst: reward {reward}, minus that of {of}, minus the mean of that over the step", flush=True
            )

    def losses(self, model: ReportGenerator, window: Sequence[Batch], step: Step) -> Sequence[StepLoss | None]:
        sampled, greedy = self._write(model, window, step.number)
        ids = [id for batch in window for id in batch.ids]
        # By sample and study of the window.
        rewards_KN = torch.tensor([self.reward(ids, [report.text for report in reports]) for reports in sampled])
        if greedy is not None:
            baseline_KN = torch.tensor([self.reward(ids, [report.text for report in greedy])]).expand_as(rewards_KN)
        else:
            baseline_KN = (rewards_KN.sum(dim=0) - rewards_KN) / (self.samples - 1)
        self._figures = {"reward": float(rewards_KN.mean())}
        if greedy is not None:
            self._figures["greedy_reward"] = float(baseline_KN.mean())
        targets = [[torch.tensor(self._target(report)) for report in reports] for reports in sampled]
        own = float(sum(len(target) for reports in targets for target in reports))
        sampled_tokens = dist.sum_over_ranks(torch.full((), own, device=step.tokens.device))
        advantages_KN = centred(rewards_KN - baseline_KN, step.tokens.device)
        scale, losses, start = step.tokens / sampled_tokens, [], 0
        for batch in window:
            end = start + len(batch.ids)
            losses.append(
                partial(
                    self._loss,
                    samples=[_padded(reports[start:end]) for reports in targets],
                    advantages=list(advantages_KN[:, start:end]),
                    scale=scale,
                )
            )
            start = end
        return losses

    def figures(self) -> Mapping[str, float]:
        return self._figures

    def _write(
        self, model: ReportGenerator, window: Sequence[Batch], step: int
    ) -> tuple[list[list[Generated]], list[Generated] | None]:
        """The sampled reports of each study of the window, by sample, and its greedy report if that is the baseline."""
        device, times = model.before_T.device, Counter[str]()
        with torch.no_grad(), evaluation_mode(model):
            prompts = []
            for batch in window:
                names = []
                for id in batch.ids:  # a study may be twice in a step
                    names.append(f"{step} {id} {times[id]}")
                    times[id] += 1
                prompts.append(Prompts(names, *model.wrap(batch.to(device))))
            sampled = self._stream(model, prompts, self.sampling, samples=self.samples)
            greedy = self._stream(model, prompts, self.greedy, samples=1)[0] if self.baseline == "greedy" else None
        return sampled, greedy

    def _stream(
        self, model: ReportGenerator, prompts: Sequence[Prompts], decoding: Decoding, *, samples: int
    ) -> list[list[Generated]]:
        """By sample, one report for each prompt, in order.

        On a GPU the memory and the graph of decoding stay for the next step.
        """
        named = [
            Prompts([f"{name} {sample}" for name in batch.ids], batch.embeds_BTE, batch.mask_BT)
            for sample in range(samples)
            for batch in prompts
        ]
        names = [name for batch in named for name in batch.ids]
        before, model.lm.keeps_slots = model.lm.keeps_slots, self.keeps_slots
        try:
            reports = dict(model.lm.stream(named, decoding, DecodingPlan(slots=len(names))))
        finally:
            model.lm.keeps_slots = before
        size = len(names) // samples
        return [[reports[name] for name in names[start : start + size]] for start in range(0, len(names), size)]

    def _target(self, report: Generated) -> list[int]:
        return [*report.ids, self.eos_id] if report.finish == "stop" else list(report.ids)

    def _loss(
        self,
        model: ReportGenerator,
        batch: Batch,
        *,
        samples: Sequence[torch.Tensor],
        advantages: Sequence[torch.Tensor],
        scale: torch.Tensor,
    ) -> torch.Tensor:
        prompt_BTE, mask_BT = model.wrap(batch)
        total = prompt_BTE.new_zeros((), dtype=torch.float32)
        for sample_BL, advantage_B in zip(samples, advantages, strict=True):
            nats_B = model.lm.loss(prompt_BTE, mask_BT, sample_BL)
            total = total + scale * (nats_B * advantage_B.to(nats_B.device)).sum()
        if self.cross_entropy:
            total = total + self.cross_entropy * model.report_loss(prompt_BTE, mask_BT, batch)
        return total


def centred(advantages_KN: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The advantages minus their mean over all samples of a step, on all ranks.

    The greedy report is usually better than a sample. If nearly all samples then lower their own probability, Adam's
    steady steps raise that of all other tokens, and the reports become worse. In float64, so that the mean does not
    depend on how the step is divided among ranks.
    """
    own_KN = advantages_KN.to(torch.float64)
    total, count = dist.sum_over_ranks(torch.stack([own_KN.sum(), own_KN.new_tensor(own_KN.numel())]).to(device)).cpu()
    return (own_KN - total / count).float()


def _padded(targets: Sequence[torch.Tensor]) -> torch.Tensor:
    """The targets [B, L] of some studies, as Batch has them."""
    return pad_sequence(list(targets), batch_first=True, padding_value=float(NO_TARGET))
