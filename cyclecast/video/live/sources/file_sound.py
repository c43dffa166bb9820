"""The sound of a video file while it is played, stretch by stretch beside its frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av

from cyclecast.video.files.opening import open_container
from cyclecast.video.live.sound.chunk import Samples
from cyclecast.video.live.sound.decoder import SoundDecoder

AHEAD_S = 0.2  # of a frame: the frames that follow may be late


class FileSound:
    """Decodes the first sound track that FFmpeg would play. A context manager.

    start: seconds that the video's timestamps are shifted by, as `StreamInfo.start`. Where the track cannot be read, it is
    silent.
    """

    def __init__(self, path: Path, start: float) -> None:
        self._start = start
        self._open = ExitStack()
        self._container: Any = self._open.enter_context(open_container(path))
        self._stretches = self._decode(self._container.streams.best("audio"))
        self._next = next(self._stretches, None)

    @staticmethod
    def exists(path: Path) -> bool:
        """Returns whether the file has sound that can be decoded."""
        with open_container(path) as container:
            stream = container.streams.best("audio")
            return stream is not None and stream.codec_context is not None

    def _decode(self, stream: Any) -> Iterator[tuple[float, Samples]]:
        decoder = SoundDecoder(stream)
        try:
            for packet in self._container.demux(stream):
                if packet.size:
                    yield from decoder.decode(packet)
        except (av.FFmpegError, OSError):  # damaged: the frames go on
            return

    def around(self, seconds: float) -> tuple[tuple[float, Samples], ...]:
        """Returns (seconds after the frame, samples) for the sound up to shortly after the frame at this time."""
        found = []
        while self._next is not None and self._next[0] - self._start <= seconds + AHEAD_S:
            found.append((self._next[0] - self._start - seconds, self._next[1]))
            self._next = next(self._stretches, None)
        return tuple(found)

    def __enter__(self) -> FileSound:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()
