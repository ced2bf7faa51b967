"""Values as YAML text."""

import io
from typing import Any

from ruamel.yaml import YAML


def yaml_text(value: Any) -> str:
    text = io.StringIO()
    writer = YAML(typ="rt", pure=True)
    writer.width = 1_000_000
    writer.representer.ignore_aliases = lambda _: True  # a value that is used twice is written twice
    writer.dump(value, text)
    return text.getvalue()
