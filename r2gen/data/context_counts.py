"""How many studies have each field of the context of a run, and how many contexts are cut."""

from collections.abc import Mapping, Sequence

from r2gen.config.plain import Plain
from r2gen.data.context import StudyContext
from r2gen.data.context_text import context_counts
from r2gen.data.reports import Study


def fields_and_cuts(context: StudyContext, splits: Mapping[str, Sequence[Study]]) -> Plain:
    """By split, the number of studies that have each field, and of those whose context is cut."""
    return {
        split: {
            "studies": len(studies),
            **context_counts(studies, context.options.fields),
            "cut": sum(context.is_cut(study) for study in studies),
        }
        for split, studies in splits.items()
    }


def counts_line(counts: Plain, *, max_tokens: int) -> str:
    """The counts for the terminal: the fields of the training studies, and the cut contexts of all splits."""
    train = counts["train"]
    numbers = {field: number for field, number in train.items() if field not in ("studies", "cut")}
    have = ", ".join(f"{number:,} have {field}" for field, number in numbers.items() if number)
    lacking = ", ".join(field for field, number in numbers.items() if not number)
    none = f", none has {lacking}" if lacking else ""
    cut = ", ".join(f"{of['cut']:,} of {of['studies']:,} {split}" for split, of in counts.items() if of["cut"])
    limit = f"cut to context.max_tokens={max_tokens}: {cut or 'none'}"
    return f"context: of {train['studies']:,} training studies {have}{none}; {limit}"
