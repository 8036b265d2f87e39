"""The token ids of a prompt without context."""

from r2gen.lm.prompt import Prompt
from r2gen.lm.tokenizer import ReportTokenizer


def prompt_ids(
    prompt: Prompt, tokenizer: ReportTokenizer, *, rows: int | None = None, encoded: bool = False
) -> tuple[list[int], list[int]]:
    """Those before and after the image, as `Prompt.around` gives them."""
    around = prompt.around(tokenizer, context=False, rows=rows, encoded=encoded)
    return around.before, around.after
