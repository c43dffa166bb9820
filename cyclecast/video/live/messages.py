"""Messages for the user, one line each, from whatever thread has something to say."""

from __future__ import annotations

import logging
from collections.abc import Callable

OnMessage = Callable[[str], None]
"""Called with one line: which source was opened, that it is gone, that it is back. From any thread."""

log = logging.getLogger(__name__)


def suppress_errors(on_message: OnMessage | None) -> OnMessage:
    """Wraps a caller's callback so that it never raises: a lost message must not end the thread that sends it.

    For None, returns a callback that does nothing. Ctrl-C in the main thread passes through.
    """

    def report(line: str) -> None:
        try:
            if on_message is not None:
                on_message(line)
        except (Exception, SystemExit):  # a SystemExit would end a thread silently
            log.debug("a message was lost: %s", line, exc_info=True)

    return report
