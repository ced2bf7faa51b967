"""How long an engine is sure of its runs."""

import pytest

from stepflow.execution.term import Term
from stepflow.testing.clock import TurnedClock

pytestmark = pytest.mark.anyio


async def test_nobody_waits_before_the_term_is_over_and_whoever_comes_later_is_confirmed() -> None:
    clock, asked = TurnedClock(), []
    term = Term(clock)

    async def confirmed() -> None:
        asked.append(clock.now())

    await term.be_sure()
    term.until, term.confirmed = clock.now() + 10, confirmed
    await term.be_sure()
    before = list(asked)
    await clock.sleep(11)
    await term.be_sure()

    assert before == []
    assert len(asked) == 1
