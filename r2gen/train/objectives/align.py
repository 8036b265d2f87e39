"""objective=align: contrastive alignment of images and reports before report training, as in CLIP (Radford, 2021).

Only the encoder trains. Its features and the language model's token embeddings, each averaged and projected, are
compared within a micro-batch: each image with each report and each report with each image. The run writes the encoder
to RUN/encoder, which vision.path reads.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from r2gen.data.collate import NO_TARGET, Batch
from r2gen.data.dataset import StudyDataset
from r2gen.data.loader import evaluation_loader
from r2gen.model.findings_prompt import pooled
from r2gen.model.report_generator import ReportGenerator, StepLoss
from r2gen.ranks import dist
from r2gen.train.objectives.findings import attach_head
from r2gen.train.objectives.objective import Step, TrainingParts, check_number

# B batch, D encoder width, E language-model width, W width of the common space, T tokens
LARGEST_SCALE = 100.0


class AlignmentHead(nn.Module):
    """The similarity [B, B] of images and reports: cosines in a common space, times a trained scale."""

    def __init__(self, *, image_dim: int, text_dim: int, width: int, temperature: float) -> None:
        super().__init__()
        self.image = nn.Linear(image_dim, width, bias=False)
        self.text = nn.Linear(text_dim, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor([math.log(1 / temperature)]))

    def forward(self, image_BD: torch.Tensor, text_BE: torch.Tensor) -> torch.Tensor:
        image_BW = F.normalize(self.image(image_BD).float(), dim=1)
        text_BW = F.normalize(self.text(text_BE).float(), dim=1)
        scale = self.log_scale.float().exp().clamp(max=LARGEST_SCALE)
        return scale * image_BW @ text_BW.T


class Alignment:
    """The mean of both cross-entropies (image to report, report to image), over the studies of a micro-batch.

    Studies with the same report are equally right answers for each other.
    """

    generates = False
    encoder_only = True

    def __init__(self, *, width: int = 256, temperature: float = 0.07) -> None:
        check_number("width", width, at_least=1, at_most=65_536)
        check_number("temperature", temperature, at_least=0.001, at_most=10)
        self.width, self.temperature = width, temperature
        self._last: dict[str, torch.Tensor] = {}

    def prepare(self, parts: TrainingParts) -> None:
        model = parts.model
        head = AlignmentHead(
            image_dim=model.vision.dim, text_dim=model.lm.dim, width=self.width, temperature=self.temperature
        )
        attach_head(model, head, seed=parts.seed)
        if dist.is_first():
            print("objective=align: the encoder alone trains; negatives are the studies of a micro-batch", flush=True)

    def losses(self, model: ReportGenerator, window: Sequence[Batch], step: Step) -> Sequence[StepLoss | None]:
        return [partial(self._loss, per_study=step.tokens / step.studies) for _ in window]

    def figures(self) -> Mapping[str, float]:
        return {name: float(value) for name, value in self._last.items()}

    def _loss(self, model: ReportGenerator, batch: Batch, *, per_study: torch.Tensor) -> torch.Tensor:
        losses_B, right_B = compare(model, batch)
        self._last = {"align_loss": losses_B.detach().mean(), "align_accuracy": right_B.float().mean()}
        return per_study * losses_B.sum()


def compare(model: ReportGenerator, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss [B] of each study, and whether [B] the most similar report of the batch is its own."""
    assert model.head is not None
    image_BD = pooled(*model.encode(batch))
    with torch.no_grad():
        text_BE = mean_embedding(model, batch.report_BT)
    weight = next(model.head.parameters())
    logits_BB: torch.Tensor = model.head(image_BD.to(weight.dtype), text_BE.to(weight.dtype))
    same_BB = (batch.report_BT[:, None] == batch.report_BT[None]).all(dim=2).to(logits_BB.device)
    targets_BB = same_BB.float() / same_BB.sum(dim=1, keepdim=True)
    losses_B = sum(F.cross_entropy(logits, targets_BB, reduction="none") for logits in (logits_BB, logits_BB.T)) / 2
    nearest_B1 = logits_BB.argmax(dim=1, keepdim=True)
    return torch.as_tensor(losses_B), same_BB.gather(1, nearest_B1)[:, 0]


def mean_embedding(model: ReportGenerator, report_BT: torch.Tensor) -> torch.Tensor:
    """The mean [B, E] over the token embeddings of each report, without what the reports of the batch have in common.

    It is scaled to a root mean square of 1.
    """
    device = model.before_T.device
    real_BT = (report_BT != NO_TARGET).to(device)
    embeds_BTE = model.lm.embed(report_BT.clamp(min=0).to(device))
    mean_BE = pooled(embeds_BTE, real_BT)
    return F.rms_norm(mean_BE - mean_BE.mean(dim=0), mean_BE.shape[1:])


@torch.no_grad()
def alignment_scores(
    model: ReportGenerator, dataset: StudyDataset, *, batch_size: int, workers: int, device: torch.device
) -> dict[str, float]:
    """The mean loss of a split, and the share of studies whose own report is the most similar one of their batch.

    All ranks must call it. Batches have the size of a micro-batch, since both depend on the number of reports.
    """
    loader = evaluation_loader(
        dataset,
        batch_size=batch_size,
        rank=dist.rank(),
        world=dist.world(),
        workers=workers,
        pin=device.type == "cuda",
    )
    sums = torch.zeros(2, device=device)
    for batch in loader:
        losses_B, right_B = compare(model, batch.to(device))
        sums += torch.stack([losses_B.sum(), right_B.float().sum()])
    loss, accuracy = (dist.sum_over_ranks(sums) / len(dataset)).tolist()
    return {"align_loss": loss, "align_accuracy": accuracy}


def alignment_selection(scores: Mapping[str, float]) -> float:
    """The number that picks the best checkpoint, higher is better."""
    return -scores["align_loss"]
