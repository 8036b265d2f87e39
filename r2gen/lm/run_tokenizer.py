"""The tokenizer of a language model with random weights, which is in its run folder."""

from collections.abc import Sequence
from pathlib import Path

from r2gen.errors import UserError
from r2gen.lm.tokenizer import read_tokenizer, save_tokenizer, train_tokenizer
from r2gen.lm.words import train_words
from r2gen.runs.files import PARTIAL

TOKENIZER = "tokenizer"  # in the run folder


def write_tokenizer(
    run_dir: Path,
    reports: Sequence[str],
    *,
    contexts: Sequence[str],
    start: str | None,
    vocabulary: str,
    size: int,
    min_count: int,
) -> None:
    """Write the tokenizer of a run, trained on its training reports and the contexts in their prompts; or that of the
    run `start`, whose weights need it.

    Raises UserError if there are no reports.
    """
    of_start = None if start is None else Path(start) / TOKENIZER
    partial = run_dir / f"{PARTIAL}{TOKENIZER}"
    if of_start is not None and of_start.is_dir():
        save_tokenizer(read_tokenizer(of_start), partial)
    else:
        if not reports:
            raise UserError("lm.path=null trains its tokenizer on the training reports, and there are none")
        texts, source = [*reports, *contexts], "training reports and contexts" if contexts else "training reports"
        words = vocabulary == "words"
        made = train_words(texts, size, min_count, source=source) if words else train_tokenizer(texts, size)
        save_tokenizer(made, partial)
    partial.rename(run_dir / TOKENIZER)
