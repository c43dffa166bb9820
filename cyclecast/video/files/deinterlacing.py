"""Makes interlaced frames progressive with FFmpeg's bwdif. The decoder's flags tell which frames are interlaced."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import av
from av.filter import Graph

WINDOW = 5  # frames; a video is interlaced from the first of two flagged frames among so many: a single flag may be wrong
NOTICE = "interlaced frames were deinterlaced (bwdif); --deinterlace off keeps them as they are"


class Deinterlacer:
    """Passes progressive frames through and deinterlaces the others, each at its own time. One for each file.

    report: called with `NOTICE` once, when the first interlaced frame is found.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._is_interlaced = False
        self.found_late = False
        """The first interlaced frame was not at the start. A run from the middle would judge single flagged frames otherwise."""

    def __call__(self, frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Yields as many frames as it gets, with the same pts and duration.

        A frame also depends on the one before and the one after, but on no other.
        """
        graph = Bwdif()
        held: list[av.VideoFrame] = []  # from a flagged frame on, until a second one confirms the flag
        is_first = True
        for frame in frames:
            held.append(frame)
            flagged = sum(each.interlaced_frame for each in held)
            if flagged > 1 and not self._is_interlaced:
                self._is_interlaced, self.found_late = True, not is_first
                self._report(NOTICE)
            if self._is_interlaced or not flagged or len(held) == WINDOW:
                while held:
                    released = held.pop(0)
                    yield from graph.filter(released) if self._is_interlaced else (released,)
                is_first = False
        yield from held
        yield from graph.flush()


class Bwdif:
    """FFmpeg's filter for the frames of one stream; it outputs each frame after it has got the next one."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._input: tuple[int, int, str] | None = None  # width, height, pixel format
        self._times: deque[tuple[int | None, int, Fraction | None]] = deque()  # of the frames inside: bwdif counts in half ticks

    def filter(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Takes a frame; yields what is finished."""
        current = (frame.width, frame.height, frame.format.name)
        if current != self._input:
            yield from self.flush()
            self._graph, self._input = _graph(*current), current
        assert self._graph is not None
        self._times.append((frame.pts, frame.duration, frame.time_base))
        self._graph.push(frame)
        yield from self._finished(self._graph)

    def flush(self) -> Iterator[av.VideoFrame]:
        """Yields the frames inside."""
        graph, self._graph, self._input = self._graph, None, None
        if graph is not None:
            graph.push(None)
            yield from self._finished(graph)

    def _finished(self, graph: Graph) -> Iterator[av.VideoFrame]:
        while self._times:
            try:
                frame = graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            assert isinstance(frame, av.VideoFrame)
            frame.pts, frame.duration, time_base = self._times.popleft()
            if time_base is not None:
                frame.time_base = time_base
            yield frame


def _graph(width: int, height: int, pix_fmt: str) -> Graph:
    graph = Graph()
    last = graph.add_buffer(width=width, height=height, format=av.VideoFormat(pix_fmt), time_base=Fraction(1, 1000))
    for name, arguments in (("bwdif", "mode=send_frame:parity=auto:deint=interlaced"), ("buffersink", None)):
        node = graph.add(name, arguments)
        last.link_to(node)
        last = node
    graph.configure()
    return graph
