"""What somebody probably meant by a name that does not exist."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one; None when none is close."""
    names = list(known)
    by_case = {each.casefold(): each for each in reversed(names)}
    if name.casefold() in by_case:
        return by_case[name.casefold()]
    return next(iter(get_close_matches(name, names, n=1)), None)
