"""Runs take turns in a queue; within a run the order stands."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stepflow_grpc.queues.line import FairLine


def line_of(*items: tuple[str, int]) -> FairLine[tuple[str, int]]:
    line: FairLine[tuple[str, int]] = FairLine()
    for run, place in items:
        line.add(run, place, (run, place))
    return line


def drained(line: FairLine[tuple[str, int]]) -> list[tuple[str, int]]:
    return list(iter(line.take, None))


def test_runs_take_turns_and_the_older_one_begins() -> None:
    line = line_of(("b", 1), ("b", 2), ("b", 3), ("a", 4), ("a", 5))

    assert drained(line) == [("a", 4), ("b", 1), ("a", 5), ("b", 2), ("b", 3)]


def test_what_comes_back_stands_where_it_stood() -> None:
    line = line_of(("a", 1), ("a", 2), ("b", 3))
    first = line.take()

    line.add("a", 1, ("a", 1), is_back=True)

    assert first == ("a", 1)
    assert drained(line) == [("a", 1), ("b", 3), ("a", 2)]


def test_a_run_with_one_task_at_a_time_starves_nobody() -> None:
    line = line_of(*(("b", place) for place in range(1, 11)))
    taken: list[str] = []
    for place in range(100, 110):
        line.add("a", place, ("a", place))
        item = line.take()
        assert item is not None
        taken.append(item[0])

    assert Counter(taken)["b"] >= 4


def test_new_runs_without_end_do_not_keep_an_old_one_from_its_turn() -> None:
    line = line_of(*(("0", place) for place in range(10)))
    taken: list[str] = []
    for place in range(100, 140):
        line.add(str(place), place, (str(place), place))
        line.add(str(place + 500), place + 500, (str(place + 500), place + 500))
        item = line.take()
        assert item is not None
        taken.append(item[0])

    assert taken.count("0") >= 4


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("abc"), st.integers(0, 30)),
            st.tuples(st.just("remove"), st.sampled_from("abc"), st.integers(0, 30)),
            st.tuples(st.just("take"), st.just(""), st.just(0)),
        ),
        max_size=200,
    )
)
def test_it_holds_what_was_added_and_neither_removed_nor_taken(steps: list[tuple[str, str, int]]) -> None:
    line: FairLine[tuple[str, int]] = FairLine()
    model: set[tuple[str, int]] = set()
    for kind, run, place in steps:
        if kind == "add":
            line.add(run, place, (run, place))
            model.add((run, place))
        elif kind == "remove":
            assert line.remove(run, place) == ((run, place) in model)
            model.discard((run, place))
        else:
            item = line.take()
            assert (item is None) == (not model)
            if item is not None:
                assert item[1] == min(place for run, place in model if run == item[0])
                model.remove(item)
        assert line.length == len(model)

    assert sorted(drained(line)) == sorted(model)


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6))
def test_of_runs_that_wait_none_is_served_twice_more_than_another(lengths: list[int]) -> None:
    line = line_of(*((f"run{run}", run * 100 + place) for run, length in enumerate(lengths) for place in range(length)))
    served: Counter[str] = Counter()

    for _ in range(min(lengths) * len(lengths)):
        item = line.take()
        assert item is not None
        served[item[0]] += 1

    assert max(served.values()) - min(served.values()) <= 1
