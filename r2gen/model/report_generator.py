"""The method of R2GenGPT: images -> encoder -> projector -> inserted into the prompt -> language model."""

from collections.abc import Callable, Hashable, Iterable
from typing import TypeAlias

import torch
from torch import nn

from r2gen.config.decoding import Decoding
from r2gen.data.collate import Batch, moved
from r2gen.data.context import PADDING, BatchContext
from r2gen.lm.prompt import Place
from r2gen.lm.protocol import DecodingPlan, Generated, LanguageModel, Prompts, Reports
from r2gen.model.findings_prompt import FindingsPrompt
from r2gen.vision.encoder import TimmEncoder

# B batch, N priors with images, R = B + N, Q image features of a study, D encoder width, E language-model width,
# T tokens
# The loss of a micro-batch, which an objective (train/objectives) computes within the forward pass of the model.
StepLoss: TypeAlias = Callable[["ReportGenerator", Batch], torch.Tensor]
Part: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # of a prompt: embeddings [B, T, E] and the mask [B, T], on the CPU


class ReportGenerator(nn.Module):
    """An encoder, a projector and a language model. `forward` computes the loss, `generate` writes reports.

    `before` and `after` are the token ids of the prompt before and after the image, and `context` is where in them the
    context of a study goes. `findings` adds the state of each finding after the image. `head` is what an objective
    trains besides; reports do not depend on it.
    """

    before_T: torch.Tensor
    after_T: torch.Tensor

    def __init__(
        self,
        *,
        vision: TimmEncoder,
        projector: Callable[[torch.Tensor], torch.Tensor],
        lm: LanguageModel,
        before: list[int],
        after: list[int],
        context: Place | None = None,
        findings: FindingsPrompt | None = None,
    ) -> None:
        super().__init__()
        self.vision = vision
        self.projector = projector
        self.lm = lm
        self.findings = findings
        self.head: nn.Module | None = None
        self.label_smoothing = 0.0
        self.context = context
        self.register_buffer("before_T", torch.tensor(before, dtype=torch.long), persistent=False)
        self.register_buffer("after_T", torch.tensor(after, dtype=torch.long), persistent=False)

    def train(self, mode: bool = True) -> "ReportGenerator":
        """As nn.Module.train, but an encoder or language model that is frozen stays in eval()."""
        super().train(mode)
        for part in (self.vision.backbone, self.lm.model):
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def forward(self, batch: Batch, loss: StepLoss | None = None) -> torch.Tensor:
        """The cross-entropy in fp32, summed over all report tokens of the batch; or another loss.

        It is not the mean, because the training loop divides by the number of target tokens in the whole optimiser
        step, over all micro-batches and ranks. It has `label_smoothing`, which `nats` never has.
        """
        return self.report_loss(*self.wrap(batch), batch) if loss is None else loss(self, batch)

    def report_loss(self, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The cross-entropy of the reports after these prompts, summed over tokens and studies."""
        return self.lm.loss(prompt_BTE, mask_BT, batch.report_BT, label_smoothing=self.label_smoothing).sum()

    def nats(self, batch: Batch) -> torch.Tensor:
        """The cross-entropy [B] of each report in fp32, summed over its tokens and the EOS token."""
        return self.lm.loss(*self.wrap(batch), batch.report_BT)

    def keeps(self, text: str) -> bool:
        """Whether a text round-trips, except for white space (T5, for example, has no line break and no "{")."""
        tokenizer = self.lm.tokenizer
        return tokenizer.decode(tokenizer.encode(text)).split() == text.split()

    def wrap(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The prompt with the image in it as embeddings [B, T, E], and on the CPU a mask [B, T] of real positions."""
        return self.prompt(*self.encode(batch), batch.context)

    def encode(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The features [R, Q, D] of each study, then of each prior study, and on the CPU a mask of those that are real.

        All in one pass: under ZeRO 3 the ranks must call each module equally often.
        """
        ids: tuple[Hashable, ...] = batch.ids
        about = None
        if batch.context is not None:
            about = batch.context.about_RV2
            ids += tuple((batch.ids[study], "prior") for study in batch.context.study_N.tolist())
        features: tuple[torch.Tensor, torch.Tensor] = self.vision(batch.images_RVHW, batch.views_RV, ids, about)
        return features

    def prompt(
        self,
        features_RQD: torch.Tensor,
        real_RQ: torch.Tensor,
        context: BatchContext | None,
        stated_BC: torch.Tensor | None = None,
    ) -> Part:
        """As `wrap`, from the features of the images. `stated_BC` are the findings, if they need no prediction."""
        image_RQE = self.projector(features_RQD)
        size = len(features_RQD) if context is None else len(context.before_BT)
        before_BTE = self.lm.embed(self.before_T.expand(size, -1))
        after_BTE = self.lm.embed(self.after_T.expand(size, -1))
        image_RQE = image_RQE.to(before_BTE.dtype)
        parts = {"before": [_constant(before_BTE)], "image": [(image_RQE, real_RQ)], "after": [_constant(after_BTE)]}
        if context is not None:
            assert self.context is not None
            parts["image"] = [(image_RQE[:size], real_RQ[:size])]
            [(text_BTE, mask_BT)], at = parts[self.context.side], self.context.index
            parts[self.context.side] = [
                (text_BTE[:, :at], mask_BT[:, :at]),
                *self._context(context, image_RQE[size:], real_RQ[size:], size=size),
                (text_BTE[:, at:], mask_BT[:, at:]),
            ]
        if self.findings is not None:
            states_BCE = self.findings(features_RQD[:size], real_RQ[:size], stated_BC)
            parts["image"].append(_constant(states_BCE.to(before_BTE.dtype)))
        embeds, masks = zip(*(part for side in parts.values() for part in side), strict=True)
        return torch.cat(embeds, dim=1), torch.cat(masks, dim=1)

    def _context(
        self, context: BatchContext, prior_NQE: torch.Tensor, real_NQ: torch.Tensor, *, size: int
    ) -> list[Part]:
        """The parts of the prompts that are the context: text, the images of the prior study, text."""
        ids_BT = torch.cat([context.before_BT, context.after_BT], dim=1)
        text_BTE, real_BT = self.lm.embed(moved(ids_BT.clamp(min=0), self.before_T.device)), ids_BT != PADDING
        at = context.before_BT.shape[1]
        images = []
        if len(context.study_N):
            prior_BQE = prior_NQE.new_zeros(size, *prior_NQE.shape[1:])
            real_BQ = real_NQ.new_zeros(size, real_NQ.shape[1]).index_copy(0, context.study_N, real_NQ)
            images = [(prior_BQE.index_copy(0, moved(context.study_N, prior_BQE.device), prior_NQE), real_BQ)]
        return [(text_BTE[:, :at], real_BT[:, :at]), *images, (text_BTE[:, at:], real_BT[:, at:])]

    @torch.inference_mode()
    def generate(self, batch: Batch, decoding: Decoding) -> list[Generated]:
        """One report for each study, in the order of the batch."""
        return self.lm.generate(*self.wrap(batch), decoding, ids=batch.ids)

    @property
    def decoded(self) -> DecodingPlan | None:
        """How the last studies were decoded."""
        return self.lm.decoded

    @torch.inference_mode()
    def stream(self, batches: Iterable[Batch], decoding: Decoding, plan: DecodingPlan) -> Reports:
        """The report of each study with its id, as soon as it has ended; see LanguageModel.stream.

        A batch is encoded when the language model needs its prompts.
        """
        prompts = (Prompts(batch.ids, *self.wrap(batch)) for batch in batches)
        yield from self.lm.stream(prompts, decoding, plan)


def _constant(text_BTE: torch.Tensor) -> Part:
    return text_BTE, torch.ones(text_BTE.shape[:2], dtype=torch.bool)
