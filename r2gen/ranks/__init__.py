"""The ranks of a job: torch.distributed, the heartbeat between them, and a graceful stop. Only dist.py imports torch."""
