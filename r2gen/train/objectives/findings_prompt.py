"""objective=findings_prompt: the prompt says which findings the images show, and a loss trains to predict them.

The idea is that of PromptMRG (Jin et al., AAAI 2024): in training the prompt has the findings of the training report,
in generation those that the model predicts. So a report states a finding when its probability reaches a threshold,
where likelihood alone prefers the sentence of a normal study.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch.nn import functional as F

from r2gen.data.collate import Batch
from r2gen.errors import UserError
from r2gen.model.report_generator import ReportGenerator, StepLoss
from r2gen.train.objectives.findings import labels_on_all_ranks
from r2gen.train.objectives.objective import Step, TrainingParts, check_number

# B batch, C findings


class FindingsPromptLoss:
    """Report loss with the findings of the report in the prompt + weight * binary cross-entropy of predicting them.

    The cross-entropy is a mean over findings and studies. Positive and uncertain mentions count as present. `threshold`
    is the probability from which a finding is in the prompt of a new study.
    """

    generates = False
    encoder_only = False
    prompts = True

    def __init__(self, *, weight: float = 1.0, threshold: float = 0.15) -> None:
        check_number("weight", weight)
        if not 0 < threshold < 1:
            raise UserError(f"objective.threshold={threshold}: give a probability between 0 and 1")
        self.weight, self.threshold = weight, threshold
        self.labels: dict[str, torch.Tensor] = {}  # [C] by study id
        self.last: torch.Tensor | None = None

    def prepare(self, parts: TrainingParts) -> None:
        stated_SC = labels_on_all_ranks(parts.studies, "findings_prompt")
        self.labels = dict(zip([study.id for study in parts.studies], stated_SC, strict=True))

    def losses(self, model: ReportGenerator, window: Sequence[Batch], step: Step) -> Sequence[StepLoss | None]:
        self.last = None
        per_study = self.weight * step.tokens / step.studies
        return [partial(self._loss, per_study=per_study) for _ in window]

    def figures(self) -> Mapping[str, float]:
        return {} if self.last is None else {"findings_loss": float(self.last)}

    def _loss(self, model: ReportGenerator, batch: Batch, *, per_study: torch.Tensor) -> torch.Tensor:
        assert model.findings is not None
        stated_BC = torch.stack([self.labels[id] for id in batch.ids])
        features_RQD, real_RQ = model.encode(batch)
        nats = model.report_loss(*model.prompt(features_RQD, real_RQ, batch.context, stated_BC), batch)
        size = len(batch.ids)
        logits_BC = model.findings.logits(features_RQD[:size], real_RQ[:size])
        labels_BC = stated_BC.to(logits_BC.device, torch.float32)
        losses_BC = F.binary_cross_entropy_with_logits(logits_BC, labels_BC, reduction="none")
        self.last = losses_BC.detach().mean()
        return nats + per_study * losses_BC.mean(dim=1).sum()
