"""The last seconds of sound of a run, which every sink reads up to the time of the frame that it is shown."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from cyclecast.video.live.sound.chunk import SoundChunk

KEPT_S = 10.0  # of sound; a sink that is slower than that loses some


class SoundFeed:
    """Keeps sound until the sinks have read it. Any thread may call it."""

    def __init__(self) -> None:
        self.is_present = False
        """There is sound, or there will be: outputs that begin now get a track for it."""
        self.on_close: Callable[[], None] = lambda: None
        """Ends what fills the feed."""
        self._chunks: deque[SoundChunk] = deque()
        self._dropped = 0  # chunks that are not kept any more
        self._seconds = 0.0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Ends what fills the feed, such as a microphone."""
        self.on_close()

    def put(self, chunk: SoundChunk) -> None:
        """Adds the sound that follows."""
        with self._lock:
            self._chunks.append(chunk)
            self._seconds += chunk.seconds
            while self._seconds > KEPT_S:
                self._seconds -= self._chunks.popleft().seconds
                self._dropped += 1

    def read(self, first: int, until: float) -> tuple[int, list[SoundChunk]]:
        """Returns (number of the next chunk, chunks from number `first` on that begin before `until`)."""
        with self._lock:
            position = max(first - self._dropped, 0)
            found: list[SoundChunk] = []
            for index in range(position, len(self._chunks)):
                if self._chunks[index].at >= until:
                    break
                found.append(self._chunks[index])
            return self._dropped + position + len(found), found


class SoundReader:
    """Reads a feed once from beginning to end."""

    def __init__(self, feed: SoundFeed) -> None:
        self._feed, self._next = feed, 0

    def read(self, until: float) -> list[SoundChunk]:
        """Returns the sound that was captured before this time and was not returned yet."""
        self._next, chunks = self._feed.read(self._next, until)
        return chunks


def sound_reader(feed: SoundFeed | None) -> SoundReader | None:
    """Returns a reader if there is sound."""
    return SoundReader(feed) if feed is not None and feed.is_present else None
