"""Waits for what happens in another thread, process or browser, instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT = 30.0  # seconds, for everything that a test waits for


def eventually(condition: Callable[[], object], what: str, seconds: float = LIMIT) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"never: {what}"
        time.sleep(0.02)
