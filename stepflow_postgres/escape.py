"""Text that users choose, in columns of PostgreSQL's text, which takes everything but NUL."""


def escaped(text: str) -> str:
    """The text without NULs, each text another one. What holds no control characters stays as it is."""
    if "\0" not in text and "\1" not in text:
        return text
    return text.replace("\1", "\1\2").replace("\0", "\1\1")


def plain(text: str) -> str:
    """The text that was escaped so."""
    if "\1" not in text:
        return text
    return text.replace("\1\1", "\0").replace("\1\2", "\1")
