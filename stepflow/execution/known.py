"""The secrets of a run as they are looked for: as values of their own and inside texts."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TypeAlias

import msgspec

from stepflow.execution.references import MARK_BYTES, SPELLINGS, Reference
from stepflow.plan.variables import without
from stepflow.records import Json

_SEARCHED = 6  # characters that a secret has at least to be looked for inside other texts
_NUMBER_SEARCHED = 4  # and digits of a number, to be looked for at all outside the places that are marked

_encode = msgspec.json.Encoder().encode

Scalar: TypeAlias = tuple[type, str | int | float]
"""A text or a number; by its type too, since 1 and 1.0 are equal and not the same."""


class Known:
    """Secret scalars to look for, each with the reference that tells it; None: it is sealed with the key."""

    def __init__(self, sources: Mapping[Scalar, Reference | None], base: "Known | None" = None) -> None:
        inherited = {} if base is None else base.sources
        self.sources: dict[Scalar, Reference | None] = {
            **sources,
            **inherited,
        }  # who had it first knows best where it comes from
        own = {needle for scalar in sources for needle in _needles(scalar)}
        self._needles: tuple[bytes, ...] = (*own, *(() if base is None else base._needles))

    def occurs_in(self, text: bytes) -> bool:
        """Whether a JSON text holds one of the secrets, or something that looks like a reference."""
        return MARK_BYTES in text or any(needle in text for needle in self._needles)

    def is_inside(self, text: bytes) -> bool:
        """Whether a JSON text holds one of the longer secrets."""
        return any(_encode(spelt)[1:-1] in text for spelt in self.spelt)

    def redacted(self, text: str) -> str:
        return without(text, [value for _, value in self.sources])

    @cached_property
    def spelt(self) -> dict[str, tuple[Reference | None, str]]:
        """Every way in which a text may hold a secret, with its source and the name of the spelling."""
        found: dict[str, tuple[Reference | None, str]] = {}
        for (kind, value), source in self.sources.items():
            if kind is not float and len(str(value)) >= _SEARCHED:
                for name, spell in SPELLINGS.items():
                    found.setdefault(spell(str(value)), (source, name if kind is str else ""))
        return found

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds the secrets inside a text, the longest first."""
        numbers = {str(value) for kind, value in self.sources if kind is int}
        spelt = sorted(self.spelt, key=len, reverse=True)
        parts = (rf"(?<!\d){text}(?!\d)" if text in numbers else re.escape(text) for text in spelt)
        return re.compile("|".join(parts) or r"(?!)")


def scalar_of(value: Json) -> Scalar:
    assert isinstance(value, str | int | float)
    return type(value), value


def is_searched(value: Json) -> bool:
    if isinstance(value, bool) or value is None:
        return False
    return value != "" if isinstance(value, str) else len(repr(value)) >= _NUMBER_SEARCHED


def _needles(scalar: Scalar) -> Iterator[bytes]:
    """Pieces of JSON text of which at least one stands wherever the secret does."""
    kind, value = scalar
    if kind is not str or len(str(value)) < _SEARCHED:
        yield _encode(value)
        return
    for spell in SPELLINGS.values():
        yield _encode(spell(str(value)))[1:-1]
