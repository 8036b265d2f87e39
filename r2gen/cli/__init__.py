"""What is passed on the command line: its words, `--help`, and Hydra's own errors in the words of this project.

What depends on Hydra's internals is here. Nothing in this package imports torch.
"""
