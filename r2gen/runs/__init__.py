"""The folder of a run: its files, identity, provenance and stored configuration.

Nothing in this package imports torch.
"""
