"""Where the command line begins: an interrupt is heeded before most of it is loaded."""

import sys
from importlib import import_module


def main() -> None:
    """Run the command line and exit; see `stepflow.cli.main`."""
    try:
        import_module("stepflow.cli.main").main()
    except (Exception, KeyboardInterrupt) as error:  # while it was loaded: later it is said by the command
        impatience = import_module("stepflow.cli.impatience")
        if not impatience.is_interrupt(error):
            raise
        impatience.end_when_interrupted()
        sys.stderr.write("interrupted\n")
        sys.exit(impatience.INTERRUPTED)


if __name__ == "__main__":
    main()
