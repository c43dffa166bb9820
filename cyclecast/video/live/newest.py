"""A slot for one item between two threads: a newer item replaces one that nobody took."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """`put` never waits; `take` waits for an item that it has not returned before. After `close` it returns nothing more."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> T | None:
        """Stores the item. Returns the item that nobody will take now: the replaced one, or this one after `close`."""
        with self._changed:
            if self._closed:
                return item
            replaced, self._item = self._item, item
            self._changed.notify_all()
            return replaced

    def take(self, seconds: float) -> T | None:
        """Waits for the newest item and takes it. None if none comes within `seconds`, or after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, seconds)
            item, self._item = self._item, None
            return item

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> T | None:
        """Wakes everybody who waits. Returns the item that nobody took."""
        with self._changed:
            self._closed = True
            item, self._item = self._item, None
            self._changed.notify_all()
            return item
