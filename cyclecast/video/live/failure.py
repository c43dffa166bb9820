"""An exception in one line, for messages to the user."""

from __future__ import annotations

from cyclecast.errors import CyclecastError


def failure_text(error: BaseException) -> str:
    """Returns the message of a CyclecastError, or the type and the message of any other exception, in one line."""
    message = " ".join(str(error).split())
    if isinstance(error, CyclecastError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
