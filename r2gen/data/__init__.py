"""Data sets, their reports and images, and the batches that models read."""
