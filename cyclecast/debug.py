"""The debug log: `--debug` or CYCLECAST_DEBUG=1 prints tracebacks and details to stderr. Standard library only.

Every module logs to `logging.getLogger(__name__)`, below the logger `cyclecast`. A module that turns an unexpected exception into
a one-line message logs the traceback first, so that this log can show it.
"""

from __future__ import annotations

import logging
import os
import sys

VARIABLE = "CYCLECAST_DEBUG"

log = logging.getLogger("cyclecast")


class DebugHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes every record to stderr."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))


def is_debug_requested() -> bool:
    """Returns whether the environment asks for the debug log: CYCLECAST_DEBUG is set, and not to 0 or to nothing."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def is_debug_enabled() -> bool:
    """Returns whether this process prints its debug log."""
    return any(isinstance(handler, DebugHandler) for handler in log.handlers)


def enable_debug_log() -> None:
    """Prints everything that cyclecast logs, with tracebacks, to stderr. A second call changes nothing."""
    if not is_debug_enabled():
        log.addHandler(DebugHandler())
        log.setLevel(logging.DEBUG)


def disable_debug_log() -> None:
    """Undoes `enable_debug_log`."""
    for handler in [handler for handler in log.handlers if isinstance(handler, DebugHandler)]:
        log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


def environment_for_child() -> dict[str, str]:
    """Returns this process's environment; a child process that gets it prints its debug log if this one does."""
    return {**os.environ, VARIABLE: "1"} if is_debug_enabled() else dict(os.environ)
