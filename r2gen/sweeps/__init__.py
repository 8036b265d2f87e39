"""Sweeps: the jobs of a grid or a search, the slots they run in, and the tables and page of their results.

Nothing in this package imports torch.
"""
