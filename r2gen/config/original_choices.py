"""Which of R2GenGPT's choices that we do not share a configuration has, in words for reports. Imports no torch."""

from r2gen.config.schema import Config


def original_choices(config: Config) -> list[str]:
    """One sentence a choice, whether it came from compat=r2gengpt or was typed; empty where none is on."""
    trainer, evaluate = config.trainer, config.evaluate
    found = []
    if evaluate.reference == "truncated":
        tokens = evaluate.max_reference_tokens
        found.append(
            f"a second table scores against references cut to {tokens} tokens of the language model, which "
            "also pick the best checkpoint: comparable only with this language model's scores"
        )
    if trainer.max_report_tokens is not None:
        found.append(
            f"training reports were cut to {trainer.max_report_tokens} tokens, end sign included: a cut report has none"
        )
    if not trainer.shuffle:
        found.append("studies were trained in the data set's order, every epoch")
    if trainer.schedule == "cosine_per_epoch":
        found.append("the learning rate fell once an epoch")
    if trainer.weight_decay_on == "all":
        found.append("biases and norms were decayed too")
    return found
