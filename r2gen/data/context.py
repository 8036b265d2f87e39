"""The context of a study: what its prompt has besides its images, as token ids, and the images of its prior study.

Each field is tokenised apart, as plain text, so that no special token comes from a study. Where the whole is too long,
the end of the prior report is cut first; CUT has the order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from r2gen.config.context import PRIOR_IMAGES, TEXT, ContextConfig
from r2gen.data.context_text import context_text, written
from r2gen.data.reports import POSITIONS, Study

# B batch, N prior studies of a batch with images, R = B + N, V views of a study, H height, W width, T tokens
CUT = ("prior_report", "comparison", "technique", "indication", "prior_days", "sex", "age")
PADDING = -1  # behind the token ids of a context
UNKNOWN = ""
PLACES = (UNKNOWN, *POSITIONS)
DAYS = (1, 7, 30, 365)  # the ages of a prior image are less than one of these, or more, or unknown
AGES = 1 + len(DAYS) + 2  # 0 is an image of the study itself


@dataclass(frozen=True)
class ExampleContext:
    """The context of one study. Its tokens are before and after the images of the prior study."""

    before_T: torch.Tensor  # int64
    after_T: torch.Tensor
    about_V2: torch.Tensor  # int64 of each image: its position, a number in PLACES, and its age
    prior_VHW: torch.Tensor | None = None  # uint8, as Example.images_VHW
    prior_about_V2: torch.Tensor | None = None


@dataclass(frozen=True)
class BatchContext:
    """The contexts of several studies; PADDING is behind the tokens."""

    before_BT: torch.Tensor
    after_BT: torch.Tensor
    about_RV2: torch.Tensor  # of the images of Batch
    study_N: torch.Tensor  # the number in the batch of each study whose prior has images


@dataclass(frozen=True)
class Tokens:
    """The token ids of a context before and after the images of the prior study, and whether it was cut."""

    before: list[int]
    after: list[int]
    is_cut: bool


class StudyContext:
    """Writes the context of studies as `options` say; `words`: for a vocabulary of words."""

    def __init__(self, options: ContextConfig, encode: Callable[[str], list[int]], *, words: bool = False) -> None:
        self.options, self.encode, self.words = options, encode, words

    def prior_views(self, study: Study) -> tuple[str, ...]:
        """The images of the prior study that the prompt has."""
        return study.prior.views if study.prior is not None and PRIOR_IMAGES in self.options.fields else ()

    def text(self, study: Study) -> str:
        """The whole context as one text, without the limit of tokens."""
        return context_text(study, self.options, words=self.words)

    def tokens(self, study: Study) -> Tokens:
        """The token ids of a study's context, of which there are at most `max_tokens`."""
        pieces = written(study, self.options, words=self.words)
        ids, is_cut = self._fitted([(piece.field, self.encode(piece.text)) for piece in pieces])
        before, after = (
            [i for piece, some in zip(pieces, ids, strict=True) if piece.is_after == is_after for i in some]
            for is_after in (False, True)
        )
        return Tokens(before, after, is_cut)

    def is_cut(self, study: Study) -> bool:
        """Whether the study has more than `max_tokens`."""
        # A token has at least one byte, so that most contexts need not be tokenised.
        return len(self.text(study).encode()) > self.options.max_tokens and self.tokens(study).is_cut

    def example(self, study: Study, prior_VHW: torch.Tensor | None) -> ExampleContext:
        """The context of a study whose prior study has these images, at the encoder's size."""
        tokens, prior = self.tokens(study), study.prior
        about_prior = None
        if prior is not None and prior_VHW is not None:
            about_prior = about(prior.positions, len(prior.views), age=age_of(prior.days))
        return ExampleContext(
            before_T=torch.tensor(tokens.before, dtype=torch.long),
            after_T=torch.tensor(tokens.after, dtype=torch.long),
            about_V2=about(study.positions, len(study.views), age=0),
            prior_VHW=prior_VHW,
            prior_about_V2=about_prior,
        )

    def _fitted(self, pieces: list[tuple[str, list[int]]]) -> tuple[list[list[int]], bool]:
        """The ids of each piece, cut until there are at most `max_tokens`, and whether that was necessary."""
        fields, ids = [field for field, _ in pieces], [some for _, some in pieces]
        excess = sum(map(len, ids)) - self.options.max_tokens
        if excess <= 0:
            return ids, False
        for field in CUT:
            if excess <= 0 or field not in fields:
                continue
            number = fields.index(field)
            label = len(self.encode(self.options.texts[field].partition(TEXT)[0]))
            left = len(ids[number]) - excess
            excess -= len(ids[number])
            ids[number] = ids[number][:left] if left > label else []  # a label by itself says nothing
            excess += len(ids[number])
        for number, field in enumerate(fields):
            if excess > 0 and field == PRIOR_IMAGES:  # the texts around the images, which stay
                excess -= len(ids[number])
                ids[number] = []
        return ids, True


def about(positions: Sequence[str], views: int, *, age: int) -> torch.Tensor:
    """The position and the age of each image [V, 2]; no positions means that all are unknown."""
    return torch.tensor([[PLACES.index(position), age] for position in (positions or [UNKNOWN] * views)])


def age_of(days: float | None) -> int:
    """The number of the age of a prior image, from 1."""
    if days is None:
        return AGES - 1
    return 1 + sum(days >= bound for bound in DAYS)


def collate_contexts(contexts: Sequence[ExampleContext]) -> BatchContext:
    """The contexts of a batch, except the images."""
    priors = [
        (number, context.prior_about_V2)
        for number, context in enumerate(contexts)
        if context.prior_about_V2 is not None
    ]
    abouts = [*(context.about_V2 for context in contexts), *(about_V2 for _, about_V2 in priors)]
    return BatchContext(
        before_BT=pad_sequence([context.before_T for context in contexts], batch_first=True, padding_value=PADDING),
        after_BT=pad_sequence([context.after_T for context in contexts], batch_first=True, padding_value=PADDING),
        about_RV2=pad_sequence(abouts, batch_first=True),
        study_N=torch.tensor([number for number, _ in priors], dtype=torch.long),
    )
