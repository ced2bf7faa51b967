"""Where the command line begins: an interrupt is heeded before most of it is loaded."""

import os
import sys
from importlib import import_module

_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit; see `stepflow.cli.main`."""
    try:
        _load_whole("msgspec")
        import_module("stepflow.cli.main").main()
    except (Exception, BaseExceptionGroup, KeyboardInterrupt) as error:
        if not is_interrupt(error):
            raise
        sys.stderr.write("interrupted\n")  # while it was loaded, or once more while it ended: else the command says it
        sys.stderr.flush()
        os._exit(_INTERRUPTED)  # at once: another interrupt may come


def _load_whole(name: str) -> None:
    """Load a module that would not end with an interrupt of its loading, but crash when it is used."""
    signal = import_module("signal")
    if not hasattr(signal, "pthread_sigmask"):
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        import_module(name)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_interrupt(error: BaseException) -> bool:
    """Whether it came of Ctrl-C: what is raised while a module is loaded, or on a loop, may arrive as another error."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()  # the context of an error in a group may be that group
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        if isinstance(found, KeyboardInterrupt):
            return True
        seen.add(id(found))
        waiting.append(found.__cause__ or found.__context__)
        if isinstance(found, BaseExceptionGroup):
            waiting.extend(found.exceptions)
    return False


if __name__ == "__main__":
    main()
