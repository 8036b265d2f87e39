"""The words around the image: tokenised apart from each other and from the report, as R2GenGPT does."""

from dataclasses import dataclass

from r2gen.errors import UserError
from r2gen.lm.tokenizer import ReportTokenizer


@dataclass(frozen=True)
class Prompt:
    """Text before and after the image; `bos` puts the beginning sign first."""

    before: str
    after: str
    bos: bool

    def ids(self, tokenizer: ReportTokenizer) -> tuple[list[int], list[int]]:
        """Token ids before the image (the beginning sign first) and after it.

        Raises UserError where a beginning sign is asked for and the checkpoint has none.
        """
        before, after = tokenizer.encode(self.before), tokenizer.encode(self.after)
        if not self.bos:
            return before, after
        if tokenizer.bos_id is None:
            raise UserError("lm.prompt.bos=true, but this checkpoint names no beginning sign: set lm.prompt.bos=false")
        return [tokenizer.bos_id, *before], after
