"""`evaluate.best`: the weighted scores that choose the best checkpoint.

Its default is reduced to the scores that the chosen metrics give, so that metrics=[bleu] needs no second option.
"""

import math

from r2gen.config.metrics import missing_weights, score_names
from r2gen.config.schema import Config
from r2gen.errors import UserError

DEFAULT = "0.5*bleu_4 + 0.5*cider"  # as in conf/config.yaml


def weighted_scores(text: str) -> dict[str, float]:
    """`0.5*bleu_4 + 0.5*cider` as score name to weight; a name without a weight has weight 1.

    Raises UserError where it is neither.
    """
    weights = {}
    for term in text.split("+"):
        weight, _, name = term.strip().rpartition("*")
        try:
            weights[name.strip()] = float(weight) if weight else 1.0
        except ValueError:
            weights[""] = 0.0
    if "" in weights:
        raise UserError(f"evaluate.best={text}: write scores and weights like 0.5*bleu_4 + 0.5*cider")
    return weights


def selection_of(config: Config) -> str:
    """evaluate.best; its default without the scores that no chosen metric gives, or else a metric's headline score."""
    if config.evaluate.best != DEFAULT:
        return config.evaluate.best
    usable = [
        scores for name, scores in score_names(config.metrics).items() if not missing_weights(config.metrics[name])
    ]
    given = [name for name in weighted_scores(DEFAULT) if any(name in scores for scores in usable)]
    if len(given) == len(weighted_scores(DEFAULT)) or not usable:
        return DEFAULT
    return given[0] if given else usable[0][0]


def check(config: Config) -> None:
    """Raise UserError where evaluate.best names a score that no chosen metric gives, or one without its weights."""
    best = selection_of(config)
    scores_of = score_names(config.metrics)
    available = {score for scores in scores_of.values() for score in scores}
    for name, weight in weighted_scores(best).items():
        if not math.isfinite(weight):
            raise UserError(f"evaluate.best={best}: {name} weighs {weight}, give a finite number")
        if name not in available:
            raise UserError(
                f"evaluate.best names {name}, which none of metrics=[{', '.join(config.metrics)}] gives: "
                f"pass evaluate.best=SCORE with one of {', '.join(sorted(available))}"
            )
        for metric, target in config.metrics.items():
            option = missing_weights(target) if name in scores_of[metric] else None
            if option is not None:
                raise UserError(
                    f"evaluate.best names {name}, and metrics.{metric}.{option}, its weights, is null: give it"
                )
