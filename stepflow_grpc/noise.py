"""What gRPC reports although nothing is wrong, or although its caller is told."""

import logging
import os


def is_noise(message: str, error: BaseException | None) -> bool:
    """Whether it comes of several event loops of a process that speak gRPC.

    Each is woken for what only one of them then finds: the others' reads are empty, before grpcio 1.80. And whichever
    is awake passes on what calls that were cancelled still have to say, to a loop that may be closed by then.
    """
    if "PollerCompletionQueue" not in message:
        return False
    return isinstance(error, BlockingIOError) or (
        isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
    )


class _Noise(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not is_noise(record.getMessage(), record.exc_info[1] if record.exc_info else None)


_NOISE = _Noise()


def leave_out_noise() -> None:
    """Log that no more, nor what gRPC writes to stderr by itself of each call that fails. May be said again."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    logging.getLogger("asyncio").addFilter(_NOISE)
