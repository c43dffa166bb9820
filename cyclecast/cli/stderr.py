"""Stderr for messages: whatever happens to it, writing never raises. Standard library only."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class MessageStream(io.TextIOBase):
    """The process's current `sys.stderr`. Drops what cannot be written.

    A run outlives the reader of its messages: its terminal is closed, `2>&1 | head` has ended, the disk of its log is full.
    """

    @property
    def _stream(self) -> Any:
        """Returns the wrapped stream; None if the process was started without one."""
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # a progress bar replaces `sys.stderr`

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Returns the encoding of the wrapped stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Writes the text, or drops it. Returns its length."""
        try:
            if self._stream is not None:
                self._stream.write(text)
        except (OSError, ValueError, RuntimeError):  # it is closed, or a signal interrupted another write
            pass
        return len(text)

    def flush(self) -> None:
        """Flushes the stream below, if that works."""
        try:
            if self._stream is not None:
                self._stream.flush()
        except (OSError, ValueError):
            pass

    def isatty(self) -> bool:
        """Returns whether the wrapped stream is a terminal."""
        try:
            return self._stream is not None and bool(self._stream.isatty())
        except ValueError:
            return False

    def fileno(self) -> int:
        """Returns the file descriptor of the wrapped stream. Raises OSError if it has none."""
        if self._stream is None:
            raise io.UnsupportedOperation("stderr is closed")
        return int(self._stream.fileno())


def discard_unwritten() -> None:
    """Discards what is left in the buffer of `sys.stderr`; Python would end with exit code 120 because it cannot be written."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stderr.fileno())
            os.close(null)
        except (OSError, ValueError):  # it has no file descriptor
            pass
