"""Checkpoints of R2GenGPT's own program: read, matched with our model, and imported as runs."""
