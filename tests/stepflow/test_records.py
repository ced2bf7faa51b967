"""What crosses a seam is named alike everywhere."""

from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from stepflow.records import task_id


@given(st.uuids(version=4), st.integers(0, 10**9), st.integers(0, 10**4))
def test_a_tasks_id_is_the_uuid_5_of_its_place_in_the_run(run: UUID, item: int, step: int) -> None:
    assert task_id(str(run), item, step) == str(uuid5(run, f"{item}/{step}"))
