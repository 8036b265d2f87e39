"""One module per task (config/task_table.py lists them), and the process of a rank (worker.py)."""
