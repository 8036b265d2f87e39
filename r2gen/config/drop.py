"""Inputs that evaluate.drop withholds at test time, or replaces by those of another patient."""

from collections.abc import Sequence

from r2gen.config.context import OF_PRIOR, ContextConfig
from r2gen.config.names import suggest
from r2gen.errors import UserError, shown

# By input: the fields of the context through which a model reads it; the lateral image is read by every model.
INPUTS: dict[str, tuple[str, ...]] = {
    "prior": OF_PRIOR,
    "indication": ("indication",),
    "lateral": (),
    "technique": ("technique",),
    "comparison": ("comparison",),
    "age": ("age",),
    "sex": ("sex",),
}
OTHER = "other_"  # begins the name of an input that comes from another patient
DROPS = (*INPUTS, *(OTHER + name for name in INPUTS))


def system_of(drop: str) -> str:
    """The name of the reports in metrics.json: no_prior, or other_prior."""
    return drop if drop.startswith(OTHER) else f"no_{drop}"


def check(drops: Sequence[str], context: ContextConfig) -> None:
    """Raise UserError naming an input that does not exist, or that the model does not read."""
    for drop in drops:
        if drop not in DROPS:
            raise UserError(
                f"evaluate.drop={shown(drop)}: not an input. Choose of {', '.join(INPUTS)}, or {OTHER}prior and so on "
                f"for another patient's{suggest(drop, DROPS)}"
            )
        fields = INPUTS[drop.removeprefix(OTHER)]
        if fields and not set(fields) & set(context.fields):
            raise UserError(
                f"evaluate.drop={drop}: this model does not read it (context.fields has none of {', '.join(fields)}). "
                "Leave it out, or train with a context that has it, such as context=all"
            )
    if len(set(drops)) != len(drops):
        raise UserError(f"evaluate.drop=[{shown(','.join(drops))}]: name each input once")
