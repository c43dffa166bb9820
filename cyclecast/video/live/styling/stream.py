"""Captured pictures, newest first, through the model: the heart of `cyclecast live`, and all of `cyclecast.stream`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import cv2
import numpy as np

from cyclecast.video.frame import Image
from cyclecast.video.live.capture.client import Capture, CapturedFrame, OnMessage
from cyclecast.video.live.capture.push_feed import PushFeed
from cyclecast.video.live.meter import Meter
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.sources.source import CaptureSettings
from cyclecast.video.live.styling.governor import Governor
from cyclecast.video.live.styling.style_switcher import Opener, StyleSwitcher
from cyclecast.video.live.styling.styled_frame import StyledFrame
from cyclecast.video.live.styling.temporal_filter import TemporalFilter

BROWSER = "browser"
PATIENCE = 0.25  # seconds to wait for a picture before looking round
FIRM = 0.9  # of the model's usual time: it will be busy for that long at least


class Feed(Protocol):
    """Where pictures come from: a `Capture`, or an `PushFeed` that others fill."""

    name: str
    captured: int
    reconnects: int

    @property
    def gone(self) -> tuple[str, float] | None: ...

    def take(self, seconds: float) -> CapturedFrame | None: ...

    def busy(self, seconds: float) -> None: ...

    def close(self) -> None: ...


class Stream:
    """The newest picture of a feed, styled; whatever comes while the model is at work is passed over, but for the last.

    steady: takes flicker out; governor: lowers the working height where the model is too slow. Both may be absent.
    """

    def __init__(
        self,
        feed: Feed,
        switcher: StyleSwitcher,
        meter: Meter,
        steady: TemporalFilter | None = None,
        governor: Governor | None = None,
    ) -> None:
        self.feed, self.switcher, self.meter = feed, switcher, meter
        self._steady, self._governor = steady, governor
        self._turns = 0

    def next(self) -> StyledFrame | None:
        """The next picture; None if there was none for a moment, or if what came was used to compile for its size.

        EOFError when the source has ended; InputError if it cannot be opened; whatever the model raises.
        """
        captured = self.feed.take(PATIENCE)
        if captured is None:
            return None
        height, width = captured.image.shape[:2]
        if not self.switcher.fits(width, height):
            self.switcher.prepare(width, height)
            return None
        began = time.perf_counter()
        self.feed.busy(FIRM * self.meter.model_seconds)
        source = flipped(captured.image) if self.switcher.mirror else captured.image
        styled = self.switcher(source)
        self.meter.add_model(time.perf_counter() - began)
        if self._steady is not None:
            if self.switcher.switches != self._turns:
                self._steady.forget()
            styled = self._steady(source, styled)
        if self._governor is not None:
            self._governor.observe(height, time.perf_counter() - began)
        self._turns = self.switcher.switches
        return StyledFrame(captured.number, captured.at, source, styled, self.switcher.active_model, self.switcher.split)

    def __iter__(self) -> Iterator[StyledFrame]:
        """Pictures until the source ends; each counts as shown when it is handed over."""
        while True:
            try:
                shown = self.next()
            except EOFError:
                return
            if shown is not None:
                self.meter.add_shown(time.perf_counter() - shown.at)
                yield shown

    def close(self, model: bool = True) -> None:
        """Lets go of the source and, unless a thread is still inside it, of the model."""
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
) -> Stream:
    """Opens a source (as `sources.live`; "browser", whose pictures a web page brings; or a feed) and the first of the models.

    What `opener` raises; a source that cannot be opened is an InputError of the first pictures.
    """
    options, meter = options or LiveOptions(), Meter()
    if isinstance(source, str):
        feed: Feed = PushFeed() if source == BROWSER else Capture(source, capture_settings, on_message)
    else:
        feed = source
    try:
        switcher = StyleSwitcher(models, opener, options.work_height, on_message)
    except BaseException:
        feed.close()
        raise
    switcher.split, switcher.mirror = options.split, options.mirror
    steady = TemporalFilter(options.steady) if options.steady else None
    governor = Governor(switcher, options.target_fps, on_message) if options.target_fps else None
    return Stream(feed, switcher, meter, steady, governor)


def flipped(image: Image) -> Image:
    """Left and right exchanged, a new image."""
    return np.asarray(cv2.flip(image, 1), np.uint8)
