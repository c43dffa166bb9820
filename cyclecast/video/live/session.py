"""The live run: one source, the active model, any number of sinks; it ends cleanly, however it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cyclecast.errors import ConfigError, OutputError
from cyclecast.video.live.capture.push_feed import PushFeed
from cyclecast.video.live.capture.recorded_feed import RecordedFeed
from cyclecast.video.live.control_queue import ControlQueue
from cyclecast.video.live.messages import OnMessage, suppress_errors
from cyclecast.video.live.meter import Percentiles
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.recorder import Recorder
from cyclecast.video.live.remotes.remote import Remote, RemoteOpener
from cyclecast.video.live.sink_group import SinkGroup
from cyclecast.video.live.sink_worker import SinkReport
from cyclecast.video.live.sinks.recording import check_files, check_is_video
from cyclecast.video.live.sinks.sink import MissingSink, OutputState, SinkOpener, sink_name
from cyclecast.video.live.sound.microphone import open_sound
from cyclecast.video.live.sources.source import CaptureSettings
from cyclecast.video.live.styling.open_model import Opener
from cyclecast.video.live.styling.stream import BROWSER, Feed, open_stream
from cyclecast.video.live.styling.styled_frame import StyledFrame
from cyclecast.video.live.switched_sinks import SwitchedSinks

REPEAT_INTERVAL_S = 0.5  # between two repetitions of the last frame while the source is gone
WAIT_INTERVAL_S = 0.1  # that the main thread waits at most: Windows delivers Ctrl-C only between waits
DRAIN_TIMEOUT_S = 1.0  # for the sinks to take the last frame of a source that has ended
MODEL_TIMEOUT_S = 10.0  # for the model to finish its last frame


@dataclass(frozen=True, kw_only=True)
class LiveReport:
    """The figures of a live run."""

    source: str
    model: str
    """The last active model."""
    seconds: float
    """From the first frame that was shown to the last."""
    captured: int
    shown: int
    """Frames that at least one sink took."""
    skipped: int
    """Captured frames that no sink took, counted where each was given up: a newer one came, or it was used for compiling."""
    held: int
    """Times that the last frame was shown again, with a notice, because the source was gone."""
    fps: float
    latency_ms: Percentiles
    """From the capture until the first sink took the frame."""
    model_ms: Percentiles
    """Mirroring and resizing included."""
    quarters_ms: list[float]
    """Mean latency in each quarter of the run."""
    work_height: int | None
    strength: float
    """Share of the styled frame in the output, at the end of the run."""
    reconnects: int
    sinks: list[SinkReport]


class Session:
    """A live run. Call `run` once, from the main thread. Everything else is for the sinks and may come from any thread.

    source: as `open_stream`, or "browser" with a web sink. models: names for `opener`. sinks: addresses for `open_sink`.
    remotes: programs outside that control the run, or that it controls.
    record_source: a file for `open_sink`, to which all captured frames are recorded before they are styled.
    Raises InputError, ModelError, EngineError, OutputError or ConfigError, each in one line.
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
        remotes: Sequence[RemoteOpener] = (),
        *,
        record_source: str | None = None,
    ) -> None:
        if source == BROWSER and not any(sink_name(address) == "web" for address in sinks):
            raise ConfigError("the source 'browser' needs the web page: add --sink web")
        if record_source is not None:
            check_is_video(record_source)
        if isinstance(source, str):
            check_files(source, sinks if record_source is None else [*sinks, record_source])
        self._options = options or LiveOptions()
        self._on_message = suppress_errors(on_message)
        self.newest: StyledFrame | None = None
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._repeated = 0.0  # when the last frame was shown again
        capture_settings = capture_settings or CaptureSettings()
        feed = PushFeed(patience=capture_settings.patience) if source == BROWSER else source
        self.sound = open_sound(self._options.audio, self._on_message)
        capture_settings = replace(capture_settings, sound=self._options.audio == "auto")
        try:
            self._stream = open_stream(feed, models, opener, capture_settings, self._options, on_message, self.sound)
        except BaseException:
            self.sound.close()
            raise
        self.feed, self.switcher, self.meter = self._stream.feed, self._stream.switcher, self._stream.meter
        self._sinks = SinkGroup(self.meter, self._on_message, self._end_without_sinks)
        self._recorder = Recorder(self._sinks, self)
        self.queue = ControlQueue(self)
        self._remotes: list[Remote] = []
        self._switched_sinks = SwitchedSinks(self._sinks, self, open_sink)
        try:
            self._open_sinks(sinks, open_sink)
            for open_remote in remotes:
                self._remotes.append(open_remote(self))
            if record_source is not None:
                self._record_source(record_source, open_sink)
        except BaseException:
            self._close_controls()
            self._sinks.close()
            self._stream.close()
            self.sound.close()
            raise

    def _open_sinks(self, addresses: Sequence[str], open_sink: SinkOpener) -> None:
        """Opens all sinks; continues without missing ones. Raises MissingSink if all are missing."""
        missing: list[tuple[str, MissingSink]] = []
        for address in addresses:
            try:
                self._sinks.add(open_sink(address, self))
            except MissingSink as error:
                missing.append((address, error))
        if len(missing) == len(addresses) > 0:
            raise missing[0][1]
        for address, reason in missing:
            self._sinks.add_missing(address, str(reason))

    def _record_source(self, address: str, open_sink: SinkOpener) -> None:
        """Records each captured frame from now on; continues without if the file cannot be written."""
        try:
            worker = self._sinks.add_beside(open_sink(address, self))
        except MissingSink as error:
            self._sinks.add_missing(address, str(error))
        else:
            self._stream.feed = RecordedFeed(self.feed, worker, self.meter)

    def run(self) -> LiveReport:
        """Runs until the source ends, the time is over, a sink quits, all sinks have failed, or Ctrl-C, which is no error."""
        styling = threading.Thread(target=self._style, name="styling", daemon=True)
        try:
            styling.start()
            try:
                self._watch_clock()
            except KeyboardInterrupt:
                self._on_message("stopping")
            self._stop.set()
            styling.join(MODEL_TIMEOUT_S)
        finally:
            self._stop.set()
            self._close_controls()
            self._sinks.close()
            self._stream.close(model=not styling.is_alive())
            self.sound.close()
        if self._failure is not None:
            raise self._failure
        return self._report()

    def _close_controls(self) -> None:
        for remote in self._remotes:
            remote.close()
        self.queue.close()

    def _watch_clock(self) -> None:
        """Returns when the run must end."""
        reported = time.perf_counter()
        while not self._stop.wait(WAIT_INTERVAL_S):
            if self._options.seconds is not None and self.meter.elapsed >= self._options.seconds:
                return
            if self._options.verbose and time.perf_counter() - reported >= 1:
                reported += 1
                self._on_message(self.status())

    def _style(self) -> None:
        """Runs in the styling thread: takes each newest frame through the model to all sinks."""
        try:
            while not self._stop.is_set():
                frame = self._stream.next()
                if frame is None:
                    self._repeat_frame()
                else:
                    self.newest = frame
                    self._sinks.put(frame)
        except EOFError:
            self._sinks.drain(DRAIN_TIMEOUT_S)
        except BaseException as error:
            self._failure = error
        finally:
            self._stop.set()

    def _repeat_frame(self) -> None:
        """Shows the last frame again, with a notice, every half second while the source is gone."""
        outage, now = self.feed.outage, time.perf_counter()
        if outage is None or self.newest is None or now - self._repeated < REPEAT_INTERVAL_S:
            return
        self._repeated = now
        self.meter.held += 1
        notice = f"the source is gone - trying again for {outage[1]:.0f} s"  # viewers must not learn its address
        self._sinks.put(replace(self.newest, notice=notice))

    def _end_without_sinks(self, failure: str) -> None:
        if not self._stop.is_set():
            self._failure = OutputError(failure)
            self._stop.set()

    def status(self) -> str:
        """Describes the last seconds in one line."""
        recent = self.meter.recent()
        height = "" if self.switcher.work_height is None else f" at height {self.switcher.work_height}"
        strength = "" if self.switcher.strength == 1 else f", strength {self.switcher.strength:g}"
        return (
            f"{recent.fps:.1f} fps, latency {recent.latency_ms:.0f} ms, "
            f"{self.switcher.active_model} {recent.model_ms:.1f} ms{height}{strength}, "
            f"captured {self.feed.captured}, shown {self.meter.shown}, skipped {self.skipped}, reconnects {self.feed.reconnects}"
        )

    @property
    def skipped(self) -> int:
        """As `SessionControls.skipped`."""
        return self.feed.skipped + self.meter.skipped

    @property
    def recording(self) -> Path | None:
        """As `SessionControls.recording`."""
        return self._recorder.path

    @property
    def last_snapshot(self) -> Path | None:
        """As `SessionControls.last_snapshot`."""
        return self._recorder.last_snapshot

    @property
    def failures(self) -> list[str]:
        """Returns `SessionControls.failures`."""
        return self._sinks.failures()

    @property
    def outputs(self) -> list[OutputState]:
        """Returns `SessionControls.outputs`."""
        return self._sinks.outputs()

    def set_recording(self, on: bool) -> Path | None:
        """As `SessionControls.set_recording`."""
        return self._recorder.set_recording(on)

    def has_sink(self, address: str) -> bool:
        """As `SessionControls.has_sink`."""
        return self._switched_sinks.is_on(address)

    def set_sink(self, address: str, on: bool) -> None:
        """As `SessionControls.set_sink`."""
        self._switched_sinks.set_sink(address, on)

    def snapshot(self) -> Path:
        """As `SessionControls.snapshot`."""
        return self._recorder.save_snapshot(self.newest)

    def quit(self) -> None:
        """As `SessionControls.quit`."""
        self._stop.set()

    def report(self, line: str) -> None:
        """As `SessionControls.report`."""
        self._on_message(line)

    def _report(self) -> LiveReport:
        meter = self.meter
        return LiveReport(
            source=self.feed.name,
            model=self.switcher.active_model,
            seconds=round(meter.seconds, 3),
            captured=self.feed.captured,
            shown=meter.shown,
            skipped=self.skipped,
            held=meter.held,
            fps=round(meter.fps, 2),
            latency_ms=meter.latency.percentiles(),
            model_ms=meter.model.percentiles(),
            quarters_ms=meter.quarters(),
            work_height=self.switcher.work_height,
            strength=self.switcher.strength,
            reconnects=self.feed.reconnects,
            sinks=self._sinks.reports(),
        )
