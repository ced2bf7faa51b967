"""What older versions of grpcio have asyncio log although nothing is wrong."""

import logging


class _Noise(logging.Filter):
    """Where several event loops of a process speak gRPC, each is woken for what only one of them then finds.

    The others' empty reads are logged as errors: before grpcio 1.80.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not (isinstance(error, BlockingIOError) and "PollerCompletionQueue" in record.getMessage())


_NOISE = _Noise()


def leave_out_noise() -> None:
    """Log that no more. May be said again."""
    logging.getLogger("asyncio").addFilter(_NOISE)
