"""Words for the sentences that tell what is wrong with a document."""

from collections.abc import Sequence
from difflib import get_close_matches


def closest(name: str, known: Sequence[str]) -> str | None:
    """The known word that somebody who wrote `name` may have meant, whatever its case and underscores."""
    if len(name) > 100:
        return None
    plain = {_folded(word): word for word in known}
    near = get_close_matches(_folded(name), list(plain), n=1, cutoff=0.7)
    return plain[near[0]] if near else None


def _folded(word: str) -> str:
    return word.replace("_", "").replace("-", "").replace(" ", "").lower()


def shorten(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
