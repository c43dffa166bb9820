"""Writes a growing file through to the disk while it is written, so that a power cut costs only its last seconds."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

SYNC_INTERVAL_S = 5.0  # by itself, a system may keep data in memory for half a minute

log = logging.getLogger(__name__)


class DiskSync:
    """Syncs a file every few seconds in a thread of its own, because a slow disk may take as long. `close` syncs a last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sync {path.name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except OSError:  # it was removed meanwhile
            return
        try:
            is_closed = False
            while not is_closed:
                is_closed = self._closed.wait(SYNC_INTERVAL_S)
                os.fsync(descriptor)
        except OSError:  # the writer of the file reports what is wrong with the disk
            log.debug("%s cannot be synced", self._path, exc_info=True)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Returns when everything is on the disk."""
        self._closed.set()
        self._thread.join()
