"""The configuration of a command: its types, the rules between its groups, and how it is composed and read.

Nothing in this package imports torch.
"""
