"""Named queues of tasks and the workers that pull from them. Nothing here knows of a wire."""
