"""objective=findings: the report loss, and an auxiliary loss on the findings that rules read from each training report.

A linear layer on the mean of a study's image features predicts which of the labeler's 14 observations, and "normal",
the report states. It gives the encoder a direct gradient about findings. With objective=findings_prompt the generator
uses it too: the prompt has the findings of the report in training, and those that are predicted in generation, as in
PromptMRG (Jin et al., AAAI 2024). So a report states a finding when its probability reaches a threshold, where
likelihood alone prefers the sentence of a normal study.
"""

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

import torch
from torch import nn
from torch.nn import functional as F

from r2gen.data.collate import Batch, moved
from r2gen.data.reports import Study
from r2gen.errors import UserError
from r2gen.evaluate.clinical_findings import NORMAL
from r2gen.evaluate.labeler import OBSERVATIONS, Status, label_report
from r2gen.model.findings_prompt import pooled
from r2gen.model.report_generator import ReportGenerator, StepLoss
from r2gen.ranks import dist
from r2gen.train.objectives.objective import Step, TrainingParts, check_number

# B batch, C classes, Q features of a study, D encoder width
CLASSES = (*OBSERVATIONS, NORMAL)


class FindingsLoss:
    """Report loss + weight * binary cross-entropy, mean over findings and studies.

    Positive and uncertain mentions count as present; negative ones, and findings that are not mentioned, as absent. A
    present finding counts as often as makes both sides equal, but at most `most_weight` times. With a `threshold` the
    prompt has the findings (model/findings_prompt.py), which are then all that the labeler knows; otherwise those that
    are in every report, or in none, are left out.
    """

    generates = False
    encoder_only = False

    def __init__(self, *, weight: float = 0.3, most_weight: float = 10.0, threshold: float | None = None) -> None:
        check_number("weight", weight)
        check_number("most_weight", most_weight, at_least=1.0)
        self.weight, self.most_weight = weight, most_weight
        self.option = "findings" if threshold is None else "findings_prompt"
        self.labels: dict[str, torch.Tensor] = {}  # [C] by study id
        self.positive_C = torch.ones(0)  # the weight of a present finding
        self.last: torch.Tensor | None = None

    def prepare(self, parts: TrainingParts) -> None:
        began = time.monotonic()
        ids = [study.id for study in parts.studies]
        stated = dist.first_of([labels_of(parts.studies) if dist.is_first() else torch.empty(0)])
        count_C = stated.sum(dim=0)
        varied_C = (count_C > 0) & (count_C < len(ids))
        if not varied_C.any():
            raise UserError(
                f"objective={self.option}: the labeler reads the same findings from every training report, so there is "
                "nothing to predict. Use objective=report"
            )
        if dist.is_first():
            counts = zip(CLASSES, varied_C.tolist(), count_C.tolist(), strict=True)
            counted = ", ".join(f"{name} {count:,}" for name, varied, count in counts if varied)
            print(
                f"objective={self.option}: {len(ids):,} training reports labelled in {time.monotonic() - began:.1f} s "
                f"({counted})",
                flush=True,
            )
        if parts.model.findings is None:
            stated, count_C = stated[:, varied_C], count_C[varied_C]
            attach_head(parts.model, nn.Linear(parts.model.vision.dim, len(count_C)), seed=parts.seed)
        self.labels = dict(zip(ids, stated.float(), strict=True))
        self.positive_C = ((len(ids) - count_C) / count_C).clamp(1.0, self.most_weight)

    def losses(self, model: ReportGenerator, window: Sequence[Batch], step: Step) -> Sequence[StepLoss | None]:
        self.last = None
        per_study = self.weight * step.tokens / step.studies
        return [partial(self._loss, per_study=per_study) for _ in window]

    def figures(self) -> Mapping[str, float]:
        return {} if self.last is None else {"findings_loss": float(self.last)}

    def _loss(self, model: ReportGenerator, batch: Batch, *, per_study: torch.Tensor) -> torch.Tensor:
        features_RQD, real_RQ = model.encode(batch)
        labels_BC = moved(torch.stack([self.labels[id] for id in batch.ids]), features_RQD.device)
        stated_BC = None if model.findings is None else labels_BC.bool()
        nats = model.report_loss(*model.prompt(features_RQD, real_RQ, batch.context, stated_BC), batch)
        predict = model.head if model.findings is None else model.findings.predict
        assert predict is not None
        weight = next(predict.parameters())
        logits_BC = predict(pooled(features_RQD, real_RQ)[: len(batch.ids)].to(weight.dtype)).float()
        losses_BC = F.binary_cross_entropy_with_logits(
            logits_BC, labels_BC, pos_weight=self.positive_C.to(logits_BC.device), reduction="none"
        )
        self.last = losses_BC.detach().mean()
        return nats + per_study * losses_BC.mean(dim=1).sum()


def labels_of(studies: Sequence[Study]) -> torch.Tensor:
    """Whether each report [S] states each finding [C], as booleans."""
    return torch.tensor([_labels_of(study.report) for study in studies], dtype=torch.bool)


@lru_cache(maxsize=1 << 20)  # repeats.py needs them too
def _labels_of(report: str) -> tuple[bool, ...]:
    labels = label_report(report)
    return (
        *(labels.status.get(name) in (Status.POSITIVE, Status.UNCERTAIN) for name in OBSERVATIONS),
        labels.normal,
    )


def attach_head(model: ReportGenerator, head: nn.Module, *, seed: int) -> None:
    """Make a module, drawn from the seed alone, the head of the model, in the device and precision of the projector."""
    like = next(model.projector.parameters())  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 2)
        for module in head.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
    model.head = head.to(like.device, like.dtype)
