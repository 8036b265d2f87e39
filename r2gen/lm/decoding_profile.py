"""How a report is decoded: the keys of `conf/generation`, checked. Imports no torch: run.py checks them too."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from r2gen.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """A decoding profile in the names of transformers' GenerationConfig. Sampling is not among them yet.

    A repetition penalty and the n-gram rule look at generated tokens only. length_penalty and early_stopping rank
    beams: with one beam they change nothing. Raises UserError naming `generation.<key>`.
    """

    max_new_tokens: int
    min_new_tokens: int = 0
    num_beams: int = 1
    repetition_penalty: float = 1.0  # 1: none; above 1 divides the odds of what was already written
    length_penalty: float = 1.0  # exponent of the length that a beam's score is divided by; above 0 favours long ones
    no_repeat_ngram_size: int = 0  # 0: none
    early_stopping: bool | Literal["never"] = False  # as transformers: true stops at num_beams finished reports

    def __post_init__(self) -> None:
        for key, least in (("max_new_tokens", 1), ("min_new_tokens", 0), ("num_beams", 1), ("no_repeat_ngram_size", 0)):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"generation.{key}={value}: give a whole number of at least {least}")
        for key in ("repetition_penalty", "length_penalty"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
                raise UserError(f"generation.{key}={value}: give a number")
        if self.repetition_penalty <= 0:
            raise UserError(f"generation.repetition_penalty={self.repetition_penalty}: give a number above 0 (1: none)")
        if self.min_new_tokens > self.max_new_tokens:
            raise UserError(f"generation.min_new_tokens={self.min_new_tokens} is more than generation.max_new_tokens="
                            f"{self.max_new_tokens}: lower the one or raise the other")  # fmt: skip
        if self.early_stopping not in (True, False, "never") or not isinstance(self.early_stopping, bool | str):
            raise UserError(f"generation.early_stopping={self.early_stopping}: give true, false or never")
