"""The method of R2GenGPT: images -> encoder -> projector -> inserted into the prompt -> language model."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import nn

from r2gen.config.decoding import Decoding
from r2gen.data.collate import Batch
from r2gen.lm.protocol import DecodingPlan, Generated, LanguageModel, Prompts, Reports
from r2gen.vision.encoder import TimmEncoder

# B batch, Q image features of a study, D encoder width, E language-model width, T tokens
# The loss of a micro-batch, which an objective (train/objectives) computes within the forward pass of the model.
StepLoss: TypeAlias = Callable[["ReportGenerator", Batch], torch.Tensor]


class ReportGenerator(nn.Module):
    """An encoder, a projector and a language model. `forward` computes the loss, `generate` writes reports.

    `before` and `after` are the token ids of the prompt before and after the image. `head` is what an objective trains
    besides; reports do not depend on it.
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
    ) -> None:
        super().__init__()
        self.vision = vision
        self.projector = projector
        self.lm = lm
        self.head: nn.Module | None = None
        self.label_smoothing = 0.0
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
        return self.prompt(*self.encode(batch))

    def encode(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The features [B, Q, D] of each study, and on the CPU a mask [B, Q] of those that are not padding."""
        features: tuple[torch.Tensor, torch.Tensor] = self.vision(batch.images_BVHW, batch.views_BV, batch.ids)
        return features

    def prompt(self, features_BQD: torch.Tensor, real_BQ: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `wrap`, from the features of the images."""
        image_BQE = self.projector(features_BQD)
        size = len(features_BQD)
        before_BTE = self.lm.embed(self.before_T.expand(size, -1))
        after_BTE = self.lm.embed(self.after_T.expand(size, -1))
        embeds_BTE = torch.cat([before_BTE, image_BQE.to(before_BTE.dtype), after_BTE], dim=1)
        ones_BT = [real_BQ.new_ones(part.shape[:2]) for part in (before_BTE, after_BTE)]
        return embeds_BTE, torch.cat([ones_BT[0], real_BQ, ones_BT[1]], dim=1)

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
