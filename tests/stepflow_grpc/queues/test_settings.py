"""What a plugin's tasks may take, as it is written on each."""

from sample_task import task_of

from stepflow_grpc.queues.settings import Settings

LIMITED = Settings(queue_timeout_s=5.0, execution_timeout_s=8.0)


def test_a_task_is_queued_under_its_own_id_and_with_the_limits_of_its_plugin() -> None:
    task = task_of(1)

    queued = LIMITED.queued(task, "gpu")

    assert (queued.id, queued.task, queued.queue) == (task.id, task, "gpu")
    assert (queued.queue_timeout_s, queued.execution_timeout_s) == (5.0, 8.0)


def test_the_engine_that_gave_a_task_away_counts_how_long_it_waits() -> None:
    queued = LIMITED.queued(task_of(1), "gpu", is_own=False)

    assert queued.queue_timeout_s is None
    assert queued.execution_timeout_s == 8.0


def test_without_limits_a_task_may_take_as_long_as_it_does() -> None:
    queued = Settings().queued(task_of(1), "gpu")

    assert (queued.queue_timeout_s, queued.execution_timeout_s) == (None, None)
