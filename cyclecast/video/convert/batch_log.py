"""Which files of a batch are finished, so that an interrupted batch is resumed."""

from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path
from typing import Any

from cyclecast.own_files import NotOwnError, leads_outside
from cyclecast.video.convert.callbacks import OnMessage
from cyclecast.video.convert.json_lines import JsonLines

log = logging.getLogger(__name__)


class BatchLog:
    """The finished files of a batch, in a hidden file of the output folder, which `close` removes once nothing failed.

    A log that cannot be read or written costs no file: `on_message` gets one line, and outputs that exist are not replaced.
    """

    NAME = ".cyclecast-batch.jsonl"

    def __init__(self, folder: Path, resume: bool = True, on_message: OnMessage | None = None) -> None:
        self.folder = folder
        self._path, self._lock = folder / self.NAME, threading.Lock()
        self._lines = JsonLines(self._path)
        self._finished: dict[str, Any] = {}
        self._is_usable = True
        try:
            lines, unreadable = self._lines.read() if resume else ([], 0)
            if any(isinstance(line.get("output"), str) and leads_outside(line["output"]) for line in lines):
                raise NotOwnError(errno.EINVAL, "it names a file outside of its folder")
            if not lines:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            log.debug("%s cannot be read", self._path, exc_info=True)
            self._is_usable = False
            if on_message:
                on_message(f"{self._path}: cannot be read ({error.strerror or error}); this batch cannot be resumed")
            return
        for line in lines:
            output, signature = line.get("output"), line.get("signature")
            if isinstance(output, str) and isinstance(signature, dict):
                self._finished[output] = signature
            else:
                unreadable += 1
        if unreadable and on_message:
            on_message(f"{self._path}: lines that cannot be read: {unreadable}; files named there count as not converted")

    def has(self, output: Path, signature: dict[str, Any]) -> bool:
        """Returns whether an earlier run made this output, which exists, from the same source with the same model and options."""
        return os.path.exists(output) and self._finished.get(self._name(output)) == signature

    def add(self, output: Path, signature: dict[str, Any]) -> str | None:
        """Notes a finished output. Returns a line for the user if that failed."""
        if not self._is_usable:
            return None
        try:
            with self._lock:
                self._lines.append({"output": self._name(output), "signature": signature})
        except OSError as error:
            log.debug("%s cannot be written", self._path, exc_info=True)
            return f"not noted in {self.NAME} ({error.strerror or error}); a later run of the batch will report that it exists"
        return None

    def close(self, all_done: bool) -> None:
        """Removes the file once every file of the batch is converted."""
        if all_done and self._is_usable:
            try:
                self._path.unlink(missing_ok=True)
            except OSError:
                log.debug("%s cannot be removed", self._path, exc_info=True)

    def _name(self, output: Path) -> str:
        return os.path.relpath(output, self._path.parent)
