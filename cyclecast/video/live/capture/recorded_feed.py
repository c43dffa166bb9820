"""A feed that also records every captured frame, unstyled. The model gets the newest one."""

from __future__ import annotations

import threading

from cyclecast.video.live.capture.client import CapturedFrame
from cyclecast.video.live.meter import Meter
from cyclecast.video.live.newest import Newest
from cyclecast.video.live.sink_worker import Delivery, SinkWorker
from cyclecast.video.live.styling.stream import Feed
from cyclecast.video.live.styling.styled_frame import StyledFrame

POLL_S = 0.25  # between two checks whether the feed is closed
CLOSE_TIMEOUT_S = 5.0


class RecordedFeed:
    """A `Feed` around another one. A thread takes each frame as it comes and hands it to `worker`, which records it.

    So frames that come while the model is busy are recorded too: all are decoded, and neither the encoder nor the disk delays
    the model. meter: counts the frames that the model skips.
    """

    def __init__(self, feed: Feed, worker: SinkWorker, meter: Meter) -> None:
        self._feed, self._worker, self._meter = feed, worker, meter
        self._deliveries = Meter()  # whether a frame was recorded says nothing about whether it was shown
        self._newest: Newest[CapturedFrame] = Newest()
        self._end: BaseException | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._pass_on, name="record source", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return self._feed.name

    @property
    def captured(self) -> int:
        return self._feed.captured

    @property
    def skipped(self) -> int:
        return self._feed.skipped

    @property
    def reconnects(self) -> int:
        return self._feed.reconnects

    @property
    def outage(self) -> tuple[str, float] | None:
        return self._feed.outage

    def _pass_on(self) -> None:
        try:
            while not self._closing.is_set():
                frame = self._feed.take(POLL_S)
                if frame is None:
                    continue
                recorded = StyledFrame(frame.number, frame.at, frame.image, frame.image, model="")
                self._worker.put(Delivery(recorded, 1, self._deliveries))
                if self._newest.put(frame) is not None:
                    self._meter.add_skipped()
            self._end = EOFError()
        except BaseException as error:  # `take` raises it in the thread that styles frames
            self._end = error

    def take(self, seconds: float) -> CapturedFrame | None:
        """As `Capture.take`."""
        is_over = self._end is not None  # before the look for a frame: the last one comes before the end
        frame = self._newest.take(0 if is_over else seconds)
        if frame is None and is_over:
            assert self._end is not None
            raise self._end
        return frame

    def busy(self, seconds: float) -> None:
        """Does nothing: each frame is needed."""

    def close(self) -> None:
        """Closes the feed. The worker stays open."""
        self._closing.set()
        self._feed.close()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._newest.close() is not None:
            self._meter.add_skipped()
