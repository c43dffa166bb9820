"""Captured frames, newest first, through the model: the heart of `cyclecast live`, and all of `cyclecast.stream`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import cv2
import numpy as np

from cyclecast.errors import ConfigError, CyclecastError
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.client import Capture, CapturedFrame
from cyclecast.video.live.messages import OnMessage, suppress_errors
from cyclecast.video.live.meter import Meter
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.sound.feed import SoundFeed
from cyclecast.video.live.sources.source import CaptureSettings
from cyclecast.video.live.styling.governor import Governor
from cyclecast.video.live.styling.open_model import Opener
from cyclecast.video.live.styling.style_switcher import StyleSwitcher
from cyclecast.video.live.styling.styled_frame import StyledFrame
from cyclecast.video.live.styling.temporal_filter import TemporalFilter
from cyclecast.video.resize import MIN_SIDE_PX
from cyclecast.video.strength import blend_with_source

log = logging.getLogger(__name__)

BROWSER = "browser"
POLL_S = 0.25  # seconds to wait for a frame before the caller gets a turn
BUSY_SHARE = 0.9  # of the model's usual time: it will be busy at least for that long


class Feed(Protocol):
    """Where frames come from: a `Capture`, or a `PushFeed` that somebody else fills."""

    @property
    def name(self) -> str: ...

    @property
    def captured(self) -> int: ...

    @property
    def skipped(self) -> int: ...

    @property
    def reconnects(self) -> int: ...

    @property
    def outage(self) -> tuple[str, float] | None: ...

    def take(self, seconds: float) -> CapturedFrame | None: ...

    def busy(self, seconds: float) -> None: ...

    def close(self) -> None: ...


class Stream:
    """The newest frame of a feed, styled. Frames that arrive while the model is busy are skipped, except for the last.

    temporal_filter: removes flicker. governor: lowers the processing height when the model is too slow. seconds: iteration ends
    that long after the first frame. All three may be absent.
    """

    def __init__(
        self,
        feed: Feed,
        switcher: StyleSwitcher,
        meter: Meter,
        temporal_filter: TemporalFilter | None = None,
        governor: Governor | None = None,
        seconds: float | None = None,
        on_message: OnMessage | None = None,
    ) -> None:
        self.feed, self.switcher, self.meter = feed, switcher, meter
        self._temporal_filter, self._governor, self._seconds = temporal_filter, governor, seconds
        self._on_message = suppress_errors(on_message)
        self._switches = 0
        self._is_working = False  # the model has accepted a frame
        self._unfit: tuple[int, int] | None = None  # the last size that the model rejected

    def next(self) -> StyledFrame | None:
        """Returns the next frame; None if none came for a moment, or if the model had to be compiled for its size or rejects it.

        Raises EOFError when the source has ended, InputError if it cannot be opened, and whatever the model raises.
        """
        captured = self.feed.take(POLL_S)
        if captured is None:
            return None
        height, width = captured.image.shape[:2]
        if not self.switcher.has_size(width, height):
            self.meter.add_skipped()
            self._prepare(width, height)
            return None
        start = time.perf_counter()
        self.feed.busy(BUSY_SHARE * self.meter.model_seconds)
        source = flip_horizontally(captured.image) if self.switcher.mirror else captured.image
        styled = self.switcher(source)
        self.meter.add_model(time.perf_counter() - start)
        if self._temporal_filter is not None:
            if self.switcher.switches != self._switches:
                self._temporal_filter.reset()
            styled = self._temporal_filter(source, styled)
        styled = blend_with_source(source, styled, self.switcher.strength)
        if self._governor is not None:
            self._governor.observe(height, time.perf_counter() - start)
        self._switches, self._is_working = self.switcher.switches, True
        return StyledFrame(captured.number, captured.at, source, styled, self.switcher.active_model, self.switcher.split)

    def _prepare(self, width: int, height: int) -> None:
        """Compiles the model for frames of this size. If the model rejects them, they are skipped: another size may follow.

        Raises what the model raises if it never worked.
        """
        if (width, height) == self._unfit:
            return
        try:
            self.switcher.prepare(width, height)
        except CyclecastError as error:
            if not self._is_working and min(width, height) >= MIN_SIDE_PX:
                raise
            log.debug("frames of %dx%d do not fit", width, height, exc_info=True)
            self._unfit = width, height
            self._on_message(f"frames of {width}x{height} cannot be shown and are skipped: {error}")

    def __iter__(self) -> Iterator[StyledFrame]:
        """Yields frames until the source ends or the time is over; each counts as shown when it is handed over."""
        while self._seconds is None or self.meter.elapsed < self._seconds:
            try:
                frame = self.next()
            except EOFError:
                return
            if frame is not None:
                self.meter.add_shown(time.perf_counter() - frame.at)
                yield frame

    def close(self, model: bool = True) -> None:
        """Closes the source and, unless a thread is still inside it (`model=False`), the model."""
        self.feed.close()
        if model:
            self.switcher.close()


def open_stream(
    source: str | Feed,
    models: Sequence[str],
    opener: Opener,
    capture_settings: CaptureSettings | None = None,
    options: LiveOptions | None = None,
    on_message: OnMessage | None = None,
    sound: SoundFeed | None = None,
) -> Stream:
    """Opens a source (an address as for `cyclecast live`, or a feed) and the first of the models.

    Raises ConfigError for "browser", whose frames come through the web page of a `Session`; whatever `opener` raises. A source
    that cannot be opened raises InputError when its first frame is taken. sound: as in `Capture`.
    """
    if source == BROWSER:
        raise ConfigError("the source 'browser' needs the web page: type cyclecast live browser --sink web")
    options, meter = options or LiveOptions(), Meter()
    feed = Capture(source, capture_settings, on_message, sound) if isinstance(source, str) else source
    try:
        switcher = StyleSwitcher(models, opener, options.work_height, on_message, options.strength)
    except BaseException:
        feed.close()
        raise
    switcher.split, switcher.mirror = options.split, options.mirror
    temporal_filter = TemporalFilter(options.steady) if options.steady else None
    governor = Governor(switcher, options.target_fps, on_message) if options.target_fps else None
    return Stream(feed, switcher, meter, temporal_filter, governor, options.seconds, on_message)


def flip_horizontally(image: Image) -> Image:
    """Returns a new image with left and right exchanged."""
    return np.asarray(cv2.flip(image, 1), np.uint8)
