"""The tokenizer of a language model with random weights, which is in its run folder."""

from collections.abc import Sequence
from pathlib import Path

from r2gen.errors import UserError
from r2gen.lm.tokenizer import ReportTokenizer, read_tokenizer, save_tokenizer, train_tokenizer
from r2gen.lm.words import train_words
from r2gen.runs.files import PARTIAL

TOKENIZER = "tokenizer"  # in the run folder


def write_tokenizer(
    run_dir: Path, reports: Sequence[str], *, start: str | None, vocabulary: str, size: int, min_count: int
) -> None:
    """Write the tokenizer of a run, trained on its training reports; or that of the run `start`, whose weights need it.

    Raises UserError if there are no reports.
    """
    of_start = None if start is None else Path(start) / TOKENIZER
    partial = run_dir / f"{PARTIAL}{TOKENIZER}"
    if of_start is not None and of_start.is_dir():
        save_tokenizer(read_tokenizer(of_start), partial)
    else:
        save_tokenizer(_trained(reports, vocabulary=vocabulary, size=size, min_count=min_count), partial)
    partial.rename(run_dir / TOKENIZER)


def _trained(reports: Sequence[str], *, vocabulary: str, size: int, min_count: int) -> ReportTokenizer:
    if not reports:
        raise UserError("lm.path=null trains its tokenizer on the training reports, and there are none")
    return train_words(reports, size, min_count) if vocabulary == "words" else train_tokenizer(reports, size)
