"""`evaluate.best`: the weighted scores that choose the best checkpoint."""

import math

from r2gen.config.schema import Config
from r2gen.errors import UserError

FINDING_SCORES = tuple(
    f"{rate}_{mean}_{count}"
    for rate in ("f1", "precision", "recall")
    for mean in ("micro", "macro")
    for count in (14, 5)
)
SCORES_OF = {
    "bleu": ("bleu_1", "bleu_2", "bleu_3", "bleu_4"),
    "rouge_l": ("rouge_l",),
    "meteor": ("meteor",),
    "cider": ("cider",),
    "findings": (*(f"findings_{score}" for score in FINDING_SCORES), "findings_f1_normal"),
    "chexbert": tuple(f"chexbert_{score}" for score in FINDING_SCORES),
    "radgraph": ("radgraph_simple", "radgraph_partial", "radgraph_complete"),
    "sacrebleu": ("sacrebleu",),
    "rouge_score": ("rouge_score_1", "rouge_score_2", "rouge_score_l"),
    "phantom_findings": ("findings_f1", "findings_precision", "findings_recall"),
}


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


def check(config: Config) -> None:
    """Raise UserError where evaluate.best names a score that no chosen metric gives, or one without its weights."""
    known = {score for metric in config.metrics for score in SCORES_OF.get(metric, (metric,))}
    for name, weight in weighted_scores(config.evaluate.best).items():
        if not math.isfinite(weight):
            raise UserError(f"evaluate.best={config.evaluate.best}: {name} weighs {weight}, give a finite number")
        if name not in known:
            raise UserError(
                f"evaluate.best names {name}, which none of metrics=[{', '.join(config.metrics)}] gives: "
                f"pass evaluate.best=SCORE with one of {', '.join(sorted(known))}"
            )
        for metric, target in config.metrics.items():
            if name in SCORES_OF.get(metric, ()) and "path" in target.arguments and target.get("path") is None:
                raise UserError(f"evaluate.best names {name}, and metrics.{metric}.path, its weights, is null: give it")
