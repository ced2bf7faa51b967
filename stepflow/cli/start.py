"""Where the command line begins: an interrupt is heeded before most of it is loaded."""

import sys
from importlib import import_module

_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit; see `stepflow.cli.main`."""
    try:
        import_module("stepflow.cli.main").main()
    except KeyboardInterrupt:  # while it was loaded: later it is said by the command
        sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
