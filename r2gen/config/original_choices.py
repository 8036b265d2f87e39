"""Choices of R2GenGPT that R2Gen does not share by default, in words for pages and tables."""

from r2gen.config.schema import Config


def original_choices(config: Config) -> list[str]:
    """One sentence for each such choice of this configuration, from compat=r2gengpt or an option of its own."""
    trainer, evaluate = config.trainer, config.evaluate
    choices = []
    if evaluate.reference == "truncated":
        tokens = evaluate.max_reference_tokens
        choices.append(
            f"a second table scores against references cut to {tokens} tokens of the language model, which "
            "also pick the best checkpoint: comparable only with this language model's scores"
        )
    if trainer.max_report_tokens is not None:
        choices.append(
            f"training reports were cut to {trainer.max_report_tokens} tokens, EOS token included: a cut report has no "
            "EOS token"
        )
    if not trainer.shuffle:
        choices.append("studies were trained in the data set's order, every epoch")
    if trainer.schedule == "cosine_per_epoch":
        choices.append("the learning rate fell once an epoch")
    if trainer.weight_decay_on == "all":
        choices.append("biases and norms were decayed too")
    return choices
