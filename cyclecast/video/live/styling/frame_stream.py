"""The iterator that `cyclecast.stream` returns."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from cyclecast.video.live.styling.stream import Stream
from cyclecast.video.live.styling.styled_frame import StyledFrame


class FrameStream(Iterator[StyledFrame]):
    """The styled frames of a live source. It releases source and model when it ends, when it is closed, or when it is dropped.

    Also a context manager: `with cyclecast.stream(0, "monet") as frames`.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream: Stream | None = stream
        self._frames = iter(stream)

    def __next__(self) -> StyledFrame:
        """Returns the next frame; waits for it. Raises InputError if the source cannot be opened, and what the model raises."""
        if self._stream is None:
            raise StopIteration
        try:
            return next(self._frames)
        except BaseException:  # the end of the source is a StopIteration
            self.close()
            raise

    def close(self) -> None:
        """Releases the source and the model. A second call does nothing."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
