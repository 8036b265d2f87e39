"""The training of a report generator: the loop, DeepSpeed, checkpoints, optimiser and loggers."""
