"""Numbers as people read them."""


def amount(number: float) -> str:
    """`1.1 M`, `412 k`, `9,870`."""
    if number >= 1_000_000:
        return f"{number / 1_000_000:.1f} M"
    if number >= 10_000:
        return f"{number / 1_000:.0f} k"
    return f"{number:,.0f}"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"


def subject(python: str, packages: int) -> str:
    return f"Python {python} and {plural(packages, 'package')}"


def pace(files: int, elapsed_s: float, processes: int) -> str:
    rate = files / elapsed_s if elapsed_s > 0 else 0
    return f"{elapsed_s:,.1f} s, {rate:,.0f} files/s, {plural(processes, 'process')}"
