"""Every item of the checklist has a test whose name begins with its number."""

import re
from pathlib import Path

NOT_YET = range(80, 85)
"""What is asked of the REST side."""


def test_every_item_of_the_checklist_has_a_test() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    named = re.findall(r"def test_((?:\d\d_)+)", text)
    numbers = {int(number) for name in named for number in name.strip("_").split("_")}

    assert numbers == set(range(1, 87)) - set(NOT_YET)
