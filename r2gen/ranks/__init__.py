"""The ranks of a job: torch.distributed, the heartbeat between them, a graceful stop. Only dist.py imports torch."""
