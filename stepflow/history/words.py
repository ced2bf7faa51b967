"""Times and amounts as people read them."""

from datetime import UTC, datetime


def duration(seconds: float) -> str:
    """`40 ms`, `4.2 s`, `40 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 0.9995:
        return f"{max(0, round(seconds * 1_000))} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for size, unit, small, part in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        whole, rest = divmod(round(seconds / small) * small, size)
        if whole:
            return f"{whole:g} {unit} {rest // small:g} {part}" if rest // small else f"{whole:g} {unit}"
    return f"{seconds:.0f} s"


def duration_ms(ms: float) -> str:
    return duration(ms / 1_000)


def ago(seconds: float) -> str:
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def clock_time(at: float) -> str:
    """Of a time in seconds since the epoch: the same everywhere, whatever the machine's zone."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC")


def date_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"


def listed(numbers: tuple[int, ...], count: int) -> str:
    """`3, 17, 20 and 4,012 more`; only how many where none is named."""
    if not numbers:
        return plural(count, "item")
    named = ", ".join(f"{number:,}" for number in numbers)
    more = count - len(numbers)
    return f"{named} and {more:,} more" if more > 0 else named


def amount(number: float) -> str:
    """`1.1 M`, `412 k`, `9,870`."""
    if number >= 1_000_000:
        return f"{number / 1_000_000:.1f} M"
    if number >= 10_000:
        return f"{number / 1_000:.0f} k"
    return f"{number:,.0f}"
