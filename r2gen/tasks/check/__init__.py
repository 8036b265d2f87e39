"""task=check: the checks of a language model before a training."""
