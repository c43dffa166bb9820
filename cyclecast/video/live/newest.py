"""A place for one item between two threads: a newer one takes the place of what nobody took."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """`put` never waits, `take` waits for what it has not seen. After `close` there is nothing more."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> T | None:
        """Leaves the item to be taken; what it takes the place of is given back."""
        with self._changed:
            passed, self._item = self._item, item
            self._changed.notify_all()
            return passed

    def take(self, seconds: float) -> T | None:
        """The newest item, once; None if none comes within `seconds` or the place is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, seconds)
            item, self._item = self._item, None
            return None if self._closed else item

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Wakes who waits; what was not taken is let go."""
        with self._changed:
            self._closed, self._item = True, None
            self._changed.notify_all()
