"""The worker: a process that pulls tasks from a queue and does them."""
