"""Snapshots and recordings in the current folder, for the keys and buttons of the sinks."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path

from cyclecast.errors import OutputError
from cyclecast.files import atomic_write
from cyclecast.video.files.images import write_image
from cyclecast.video.live.sink_group import SinkGroup
from cyclecast.video.live.sink_worker import SinkWorker
from cyclecast.video.live.sinks.recording import Recording
from cyclecast.video.live.sinks.recording_names import unused
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.styling.styled_frame import StyledFrame


class Recorder:
    """Starts and stops the recording of a run, one at a time. Any thread may call it: one call waits for another to finish."""

    def __init__(self, sinks: SinkGroup, controls: SessionControls) -> None:
        self._sinks, self._controls = sinks, controls
        self._current: tuple[Path, SinkWorker] | None = None
        self._saved: tuple[float, Path] | None = None  # when the frame was captured, and its file
        self._lock = threading.Lock()

    @property
    def path(self) -> Path | None:
        """The file that is being recorded; None if there is none, or if it failed."""
        current = self._current
        return None if current is None or current[1].failure is not None else current[0]

    def set_recording(self, on: bool) -> Path | None:
        """As `SessionControls.set_recording`."""
        with self._lock:
            if on and self.path is None:
                path = unused_path(".mp4")
                sink = Recording(str(path), self._controls)
                self._current = path, self._sinks.add(sink)
                self._controls.report(f"recording to {path}")
            elif not on and self._current is not None:
                (path, worker), self._current = self._current, None
                self._sinks.remove(worker)
                if worker.failure is None:
                    self._controls.report(f"recorded {path}" if path.exists() else f"{path} is not written: there was no frame")
            return self.path

    @property
    def last_snapshot(self) -> Path | None:
        """The file of the last snapshot; None if there is none."""
        return None if self._saved is None else self._saved[1]

    def save_snapshot(self, frame: StyledFrame | None) -> Path:
        """Saves a frame as a PNG; the same frame again returns the same file. OutputError if none exists or writing fails."""
        if frame is None:
            raise OutputError("there is no frame yet")
        with self._lock:
            if self._saved is not None and self._saved[0] == frame.at and self._saved[1].exists():
                return self._saved[1]
            path = unused_path(".png")
            with atomic_write(path) as partial:
                write_image(partial, frame.image)
            self._saved = frame.at, path
        self._controls.report(f"saved {path}")
        return path


def unused_path(suffix: str) -> Path:
    """Returns the path of a new file in the current folder, named after the time."""
    return unused(Path(f"cyclecast-{datetime.now():%Y%m%d-%H%M%S}"), suffix)
