"""How a report is decoded: the keys of `conf/generation`."""

from dataclasses import dataclass, fields
from math import isfinite
from typing import Literal, get_type_hints

from r2gen.config.fields import check_bounds, option
from r2gen.config.hints import accepts, describe
from r2gen.errors import UserError, shown

OF_SAMPLING = ("temperature", "top_p", "seed")


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """A decoding profile: the names of transformers' GenerationConfig, and `seed`.

    There are four kinds: greedy; beam search (num_beams above 1); sampling (do_sample, with temperature, top_k, top_p
    and seed); contrastive search (penalty_alpha and top_k; Su et al., 2022). Keys of sampling or contrastive search
    without it are refused. length_penalty and early_stopping rank beams; with one beam they change nothing, so that
    num_beams=1 can be passed with a beam profile. The repetition penalty and the n-gram rule look at generated tokens
    only. Raises UserError naming `generation.<key>`.
    """

    max_new_tokens: int = option("longest report in tokens", at_least=1, at_most=100_000)
    min_new_tokens: int = option("shortest report in tokens", default=0, at_least=0)
    num_beams: int = option("beams; 1: greedy or sampling", default=1, at_least=1, at_most=1_000)
    repetition_penalty: float = option(
        "above 1 lowers the probability of tokens already generated", default=1.0, at_least=0.001, at_most=1_000
    )
    length_penalty: float = option(
        "exponent of the length that divides a beam's score; above 0 favours long reports", default=1.0, at_most=1_000
    )
    no_repeat_ngram_size: int = option("n-grams of this length occur once; 0: off", default=0, at_least=0)
    early_stopping: bool | Literal["never"] = option(
        "as in transformers: true stops when num_beams reports are finished", default=False
    )
    do_sample: bool = option("draw tokens at random", default=False)
    temperature: float | None = option("null: 1; below 1 is sharper", default=None, at_least=0.001, at_most=1_000)
    top_k: int | None = option("draw from the k likeliest tokens; null: from all", default=None, at_least=1)
    top_p: float | None = option(
        "draw from the fewest tokens with this probability in all; null: 1", default=None, more_than=0, at_most=1
    )
    seed: int | None = option("null: 0; a report depends on the seed and its study's id only", default=None, at_least=0)
    penalty_alpha: float | None = option(
        "contrastive search: weight of the similarity to earlier tokens", default=None, more_than=0, at_most=1
    )

    def __post_init__(self) -> None:
        hints = get_type_hints(Decoding)
        for spec in fields(self):
            name, value = f"generation.{spec.name}", getattr(self, spec.name)
            if not accepts(value, hints[spec.name]) or (isinstance(value, float) and not isfinite(value)):
                raise UserError(f"{name}={shown(value)}: give {describe(hints[spec.name])}")
            check_bounds(name, value, spec)
        if self.min_new_tokens > self.max_new_tokens:
            raise UserError(
                f"generation.min_new_tokens={self.min_new_tokens} is more than generation.max_new_tokens="
                f"{self.max_new_tokens}: lower the one or raise the other"
            )
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
