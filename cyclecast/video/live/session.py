"""The live job: one source, one look, any number of sinks; it ends when it is told to, and cleanly."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cyclecast.errors import ConfigError, OutputError
from cyclecast.files import atomic_write
from cyclecast.video.files.images import write_image
from cyclecast.video.live.capture.client import OnMessage
from cyclecast.video.live.meter import Percentiles
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.sink_worker import SinkReport, SinkWorker
from cyclecast.video.live.sinks.recording import Recording
from cyclecast.video.live.sinks.sink import Sink, SinkOpener
from cyclecast.video.live.sources.source import CaptureSettings
from cyclecast.video.live.styling.stream import BROWSER, Feed, open_stream
from cyclecast.video.live.styling.style_switcher import Opener
from cyclecast.video.live.styling.styled_frame import StyledFrame

HELD = 0.5  # seconds between two showings of a picture that is held
LOOK_ROUND = 0.1  # seconds that the main thread waits at most: Windows delivers Ctrl-C only between waits
END = 10.0  # seconds for the model to finish its last frame


@dataclass(frozen=True, kw_only=True)
class LiveReport:
    """What came of a live run."""

    source: str
    model: str
    """The last one at work."""
    seconds: float
    """From the first picture that was shown to the last."""
    captured: int
    shown: int
    """Pictures that at least one sink took."""
    skipped: int
    """Captured, but a newer one was there before the model or a sink could take it."""
    held: int
    """Times that the last picture was shown again, with a notice, because the source was gone."""
    fps: float
    latency_ms: Percentiles
    """Captured -> handed to the first sink that took it."""
    model_ms: Percentiles
    """Mirroring and resizing included."""
    quarters_ms: list[float]
    """Mean latency in each quarter of the run."""
    work_height: int | None
    reconnects: int
    sinks: list[SinkReport]


class Session:
    """A live run. `run` is to be called from the main thread, once; everything else is for sinks and may come from any thread.

    source: as `open_stream`. models: names for `opener`. sinks: addresses for `open_sink`. Errors,
    in one line: InputError, ModelError, EngineError, OutputError, ConfigError.
    """

    def __init__(
        self,
        source: str | Feed,
        models: Sequence[str],
        opener: Opener,
        sinks: Sequence[str],
        open_sink: SinkOpener,
        capture_settings: CaptureSettings | None = None,
        options: LiveOptions | None = None,
        on_message: OnMessage | None = None,
    ) -> None:
        self._options = options or LiveOptions()
        self._news = on_message or (lambda line: None)
        self.newest: StyledFrame | None = None
        self.recording: Path | None = None
        self._recorder: SinkWorker | None = None
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._last_taken = 0  # the number of the newest frame that a sink has taken
        self._sink_workers: list[SinkWorker] = []
        self._finished: list[SinkReport] = []
        self._stream = open_stream(source, models, opener, capture_settings, self._options, on_message)
        self.feed, self.switcher, self.meter = self._stream.feed, self._stream.switcher, self._stream.meter
        try:
            for address in sinks:
                self._sink_workers.append(self._sink_worker(open_sink(address, self)))
            if source == BROWSER and not any(sink_worker.sink.name.startswith("web") for sink_worker in self._sink_workers):
                raise ConfigError("the source browser comes with the page of --sink web")
        except BaseException:
            self._close_sink_workers()
            self._stream.close()
            raise

    def _sink_worker(self, sink: Sink) -> SinkWorker:
        return SinkWorker(sink, self._taken, self._failed)

    def run(self) -> LiveReport:
        """Until the source ends, the time is up, a sink asks for it, all sinks have failed, or Ctrl-C, which is no error here."""
        styling = threading.Thread(target=self._style, name="styling", daemon=True)
        try:
            styling.start()
            try:
                self._attend()
            except KeyboardInterrupt:
                self._news("ending")
            self._stop.set()
            styling.join(END)
        finally:
            self._stop.set()
            self._close_sink_workers()
            self._stream.close(model=not styling.is_alive())
        if self._failure is not None:
            raise self._failure
        return self._report()

    def _attend(self) -> None:
        """The main thread's part: windows, and the clock."""
        told = time.perf_counter()
        while not self._stop.is_set():
            in_main = [sink_worker for sink_worker in self._sink_workers if sink_worker.sink.in_main_thread]
            for sink_worker in in_main:
                sink_worker.pump(LOOK_ROUND / len(in_main))
            if not in_main:
                self._stop.wait(LOOK_ROUND)
            if self._options.seconds is not None and self.meter.elapsed >= self._options.seconds:
                return
            if self._options.verbose and time.perf_counter() - told >= 1:
                told += 1
                self._news(self.line())

    def line(self) -> str:
        """The last seconds in words."""
        now = self.meter.now()
        passed = self.feed.captured - self.meter.shown
        lines = "" if self.switcher.work_height is None else f" at {self.switcher.work_height} lines"
        return (
            f"{now.fps:.1f} fps, latency {now.latency_ms:.0f} ms, {self.switcher.active_model} {now.model_ms:.1f} ms{lines}, "
            f"captured {self.feed.captured}, shown {self.meter.shown}, skipped {passed}, reconnects {self.feed.reconnects}"
        )

    def _style(self) -> None:
        """The styling thread: the newest picture through the model, to all sinks."""
        held = time.perf_counter()
        try:
            while not self._stop.is_set():
                shown = self._stream.next()
                if shown is None:
                    gone, now = self.feed.gone, time.perf_counter()
                    if gone is None or self.newest is None or now - held < HELD:
                        continue
                    held = now
                    self.meter.held += 1
                    shown = replace(self.newest, notice=f"{self.feed.name} is gone - trying again for {gone[1]:.0f} s")
                else:
                    self.newest = shown
                for sink_worker in list(self._sink_workers):
                    sink_worker.put(shown)
        except EOFError:
            self._drain()
        except BaseException as error:
            self._failure = error
        finally:
            self._stop.set()

    def _drain(self) -> None:
        """Gives the sinks a moment for the last picture."""
        limit = time.perf_counter() + 1.0
        while self.newest is not None and self._last_taken < self.newest.number and time.perf_counter() < limit:
            self._stop.wait(0.01)

    def _taken(self, shown: StyledFrame, latency: float) -> None:
        with self._lock:
            if shown.number <= self._last_taken:
                return
            self._last_taken = shown.number
        self.meter.add_shown(latency)

    def _failed(self, sink_worker: SinkWorker) -> None:
        self._news(f"{sink_worker.sink.name} failed and is left out: {sink_worker.failure}")
        with self._lock:
            left = [other for other in self._sink_workers if other.failure is None]
            if sink_worker is self._recorder:
                self._recorder = self.recording = None
        if not left and not self._stop.is_set():
            self._failure = OutputError(f"{sink_worker.sink.name}: {sink_worker.failure}")
            self._stop.set()

    def snapshot(self) -> Path:
        """As `SessionControls.snapshot`."""
        newest = self.newest
        if newest is None:
            raise OutputError("there is no picture yet")
        path = _named(".png")
        with atomic_write(path) as partial:
            write_image(partial, newest.image)
        self._news(f"saved {path}")
        return path

    @property
    def skipped(self) -> int:
        """As `SessionControls.skipped`."""
        return max(0, self.feed.captured - self.meter.shown)

    def set_recording(self, on: bool) -> Path | None:
        """As `SessionControls.set_recording`."""
        if on == (self.recording is not None):
            return self.recording
        with self._lock:
            recorder, self._recorder = self._recorder, None
            if recorder is not None:
                self._sink_workers.remove(recorder)
        if recorder is not None:
            recorder.close()
            self._finished.append(recorder.report())
            self._news(f"recorded {self.recording}")
            self.recording = None
            return None
        path = _named(".mp4")
        sink = Recording(str(path), self)
        with self._lock:
            self.recording, self._recorder = path, self._sink_worker(sink)
            self._sink_workers.append(self._recorder)
        self._news(f"recording into {path}")
        return path

    def quit(self) -> None:
        """As `SessionControls.quit`."""
        self._stop.set()

    def report(self, line: str) -> None:
        """As `SessionControls.report`."""
        self._news(line)

    def _close_sink_workers(self) -> None:
        for sink_worker in self._sink_workers:
            sink_worker.close()

    def _report(self) -> LiveReport:
        meter, captured = self.meter, self.feed.captured
        return LiveReport(
            source=self.feed.name,
            model=self.switcher.active_model,
            seconds=round(meter.seconds, 3),
            captured=captured,
            shown=meter.shown,
            skipped=captured - meter.shown,
            held=meter.held,
            fps=round(meter.fps, 2),
            latency_ms=meter.latency.percentiles(),
            model_ms=meter.model.percentiles(),
            quarters_ms=meter.quarters(),
            work_height=self.switcher.work_height,
            reconnects=self.feed.reconnects,
            sinks=[*self._finished, *(sink_worker.report() for sink_worker in self._sink_workers)],
        )


def _named(suffix: str) -> Path:
    """A file in the current folder that is not there yet, named after the time."""
    stem = f"cyclecast-{datetime.now():%Y%m%d-%H%M%S}"
    path, number = Path(f"{stem}{suffix}"), 1
    while path.exists():
        path, number = Path(f"{stem}-{number}{suffix}"), number + 1
    return path
