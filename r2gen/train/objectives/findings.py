"""objective=findings: the report loss, and an auxiliary loss on the findings that rules read from each training report.

A linear layer on the mean of a study's image features predicts which of the labeler's 14 observations, and "normal",
the report states. It gives the encoder a direct gradient about findings; the generator itself does not use it.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from r2gen.data.collate import Batch
from r2gen.data.reports import Study
from r2gen.errors import UserError
from r2gen.evaluate.labeler import OBSERVATIONS, Status, label_report
from r2gen.model.findings_prompt import pooled
from r2gen.model.report_generator import ReportGenerator, StepLoss
from r2gen.ranks import dist
from r2gen.train.objectives.objective import Step, TrainingParts, check_number

# B batch, C classes, Q features of a study, D encoder width
CLASSES = (*OBSERVATIONS, "normal")


class FindingsLoss:
    """Report loss + weight * binary cross-entropy, mean over findings and studies.

    Positive and uncertain mentions count as present; negative ones, and findings that are not mentioned, as absent. A
    present finding counts as often as makes both sides equal, but at most `most_weight` times.
    """

    generates = False
    encoder_only = False

    def __init__(self, *, weight: float = 0.3, most_weight: float = 10.0) -> None:
        check_number("weight", weight)
        check_number("most_weight", most_weight, at_least=1.0)
        self.weight, self.most_weight = weight, most_weight
        self.labels: dict[str, torch.Tensor] = {}  # [C] by study id
        self.positive_C = torch.ones(0)  # the weight of a present finding
        self.last: torch.Tensor | None = None

    def prepare(self, parts: TrainingParts) -> None:
        ids = [study.id for study in parts.studies]
        stated = labels_on_all_ranks(parts.studies, "findings")
        count_C = stated.sum(dim=0)
        varied_C = (count_C > 0) & (count_C < len(ids))
        if not varied_C.any():
            raise UserError(
                "objective=findings: the labeler reads the same findings from every training report, so there is "
                "nothing to predict. Use objective=report"
            )
        labels_SC, count_C = stated[:, varied_C].float(), count_C[varied_C]
        self.labels = dict(zip(ids, labels_SC, strict=True))
        self.positive_C = ((len(ids) - count_C) / count_C).clamp(1.0, self.most_weight)
        attach_head(parts.model, nn.Linear(parts.model.vision.dim, len(count_C)), seed=parts.seed)

    def losses(self, model: ReportGenerator, window: Sequence[Batch], step: Step) -> Sequence[StepLoss | None]:
        self.last = None
        per_study = self.weight * step.tokens / step.studies
        return [partial(self._loss, per_study=per_study) for _ in window]

    def figures(self) -> Mapping[str, float]:
        return {} if self.last is None else {"findings_loss": float(self.last)}

    def _loss(self, model: ReportGenerator, batch: Batch, *, per_study: torch.Tensor) -> torch.Tensor:
        features_RQD, real_RQ = model.encode(batch)
        nats = model.report_loss(*model.prompt(features_RQD, real_RQ, batch.context), batch)
        assert model.head is not None
        weight = next(model.head.parameters())
        logits_BC = model.head(pooled(features_RQD, real_RQ)[: len(batch.ids)].to(weight.dtype)).float()
        labels_BC = torch.stack([self.labels[id] for id in batch.ids]).to(logits_BC.device)
        losses_BC = F.binary_cross_entropy_with_logits(
            logits_BC, labels_BC, pos_weight=self.positive_C.to(logits_BC.device), reduction="none"
        )
        self.last = losses_BC.detach().mean()
        return nats + per_study * losses_BC.mean(dim=1).sum()


def labels_on_all_ranks(studies: Sequence[Study], objective: str) -> torch.Tensor:
    """`labels_of` the training studies, computed once; the first rank prints how many reports state each finding."""
    began = time.monotonic()
    stated_SC = dist.first_of([labels_of(studies) if dist.is_first() else torch.empty(0)])
    if dist.is_first():
        counts = zip(CLASSES, stated_SC.sum(dim=0).tolist(), strict=True)
        counted = ", ".join(f"{name} {count:,}" for name, count in counts if 0 < count < len(studies))
        print(
            f"objective={objective}: {len(studies):,} training reports labelled in {time.monotonic() - began:.1f} s "
            f"({counted})",
            flush=True,
        )
    return stated_SC


def labels_of(studies: Sequence[Study]) -> torch.Tensor:
    """Whether each report [S] states each finding [C], as booleans."""
    rows = []
    for study in studies:
        labels = label_report(study.report)
        present = [labels.status.get(name) in (Status.POSITIVE, Status.UNCERTAIN) for name in OBSERVATIONS]
        rows.append([*present, labels.normal])
    return torch.tensor(rows, dtype=torch.bool)


def attach_head(model: ReportGenerator, head: nn.Module, *, seed: int) -> None:
    """Make a module, drawn from the seed alone, the head of the model, in the device and precision of the projector."""
    like = next(model.projector.parameters())  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 2)
        for module in head.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
    model.head = head.to(like.device, like.dtype)
