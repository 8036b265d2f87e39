"""How a report is decoded: the keys of `conf/generation`, checked. Imports no torch: run.py checks them too."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from r2gen.errors import UserError

LEAST_SCALE = 0.001  # scores are divided by these: smaller ones leave numbers
OF_SAMPLING = ("temperature", "top_p", "seed")


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """A decoding profile in the names of transformers' GenerationConfig, and `seed`.

    One of four kinds: greedy; beam search (num_beams above 1); sampling (do_sample, with temperature, top_k, top_p and
    seed); contrastive search (penalty_alpha and top_k; Su et al., 2022). Keys of sampling or contrastive search
    without it are refused. length_penalty and early_stopping rank beams: with one beam they change nothing, so that a
    beam profile can be typed down to one. A repetition penalty and the n-gram rule look at generated tokens only.
    Raises UserError naming `generation.<key>`.
    """

    max_new_tokens: int
    min_new_tokens: int = 0
    num_beams: int = 1
    repetition_penalty: float = 1.0  # 1: none; above 1 divides the odds of what was already written
    length_penalty: float = 1.0  # exponent of the length that a beam's score is divided by; above 0 favours long ones
    no_repeat_ngram_size: int = 0  # 0: none
    early_stopping: bool | Literal["never"] = False  # as transformers: true stops at num_beams finished reports
    do_sample: bool = False
    temperature: float | None = None  # null: 1, the model's own odds; below 1 sharper
    top_k: int | None = None  # null: every token may be drawn; else the likeliest ones only
    top_p: float | None = None  # null: 1; else the fewest tokens that hold this much probability
    seed: int | None = None  # null: 0; a study's report is drawn from the seed and the study's id alone
    penalty_alpha: float | None = None  # weight of the likeness to earlier tokens against the probability

    def __post_init__(self) -> None:
        for key, least in (
            ("max_new_tokens", 1),
            ("min_new_tokens", 0),
            ("num_beams", 1),
            ("no_repeat_ngram_size", 0),
            ("top_k", 1),
            ("seed", 0),
        ):
            value = getattr(self, key)
            if value is None and key in ("top_k", "seed"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"generation.{key}={value}: give a whole number of at least {least}")
        for key in ("repetition_penalty", "length_penalty", "temperature", "top_p", "penalty_alpha"):
            value = getattr(self, key)
            if value is None and key in ("temperature", "top_p", "penalty_alpha"):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
                raise UserError(f"generation.{key}={value}: give a number")
            if value <= 0 and key != "length_penalty":
                raise UserError(f"generation.{key}={value}: give a number above 0")
            if value > 1 and key in ("top_p", "penalty_alpha"):
                raise UserError(f"generation.{key}={value}: give a number up to 1")
        for key, most in (
            ("max_new_tokens", 100_000),
            ("num_beams", 1_000),
            ("repetition_penalty", 1_000),
            ("length_penalty", 1_000),
            ("temperature", 1_000),
        ):
            if (getattr(self, key) or 0) > most:
                raise UserError(f"generation.{key}={getattr(self, key)}: give at most {most:,}")
        for key in ("temperature", "repetition_penalty"):
            if (getattr(self, key) or 1) < LEAST_SCALE:
                raise UserError(f"generation.{key}={getattr(self, key)}: give at least {LEAST_SCALE}")
        if self.min_new_tokens > self.max_new_tokens:
            raise UserError(
                f"generation.min_new_tokens={self.min_new_tokens} is more than generation.max_new_tokens="
                f"{self.max_new_tokens}: lower the one or raise the other"
            )
        if self.early_stopping not in (True, False, "never") or not isinstance(self.early_stopping, bool | str):
            raise UserError(f"generation.early_stopping={self.early_stopping}: give true, false or never")
        if not isinstance(self.do_sample, bool):
            raise UserError(f"generation.do_sample={self.do_sample}: give true or false")
        self._refuse_mixtures()

    def _refuse_mixtures(self) -> None:
        for key in OF_SAMPLING:
            if getattr(self, key) is not None and not self.do_sample:
                raise UserError(
                    f"generation.{key}={getattr(self, key)} is for sampling: add generation.do_sample=true,"
                    f" or leave generation.{key} out"
                )
        if self.top_k is not None and not self.do_sample and self.penalty_alpha is None:
            raise UserError(
                f"generation.top_k={self.top_k} is for sampling or contrastive search: add generation."
                "do_sample=true or generation.penalty_alpha, or leave generation.top_k out"
            )
        if self.penalty_alpha is not None and (self.top_k or 1) < 2:
            raise UserError(
                "generation.penalty_alpha (contrastive search) chooses among candidates: give "
                "generation.top_k of at least 2"
            )
        kinds = {
            "num_beams": self.num_beams > 1,
            "do_sample": self.do_sample,
            "penalty_alpha": self.penalty_alpha is not None,
        }
        chosen = [f"generation.{key}={getattr(self, key)}" for key, on in kinds.items() if on]
        if len(chosen) > 1:
            raise UserError(
                f"{' and '.join(chosen)} are different ways of decoding: keep one (beams, sampling or "
                "contrastive search)"
            )
