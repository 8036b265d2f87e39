"""From a configuration to processes: the folder of a job, its file, and one process per rank.

Nothing in this package imports torch.
"""
