"""A window on the screen, with keys, in a process of its own: window toolkits end their process when the display goes away."""

from __future__ import annotations

import logging
import re
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

from cyclecast.errors import CyclecastError, OutputError
from cyclecast.isolated import last_line
from cyclecast.video.display import find_window_problem
from cyclecast.video.frame import Image
from cyclecast.video.live.failure import failure_text
from cyclecast.video.live.message_process import MessageProcess
from cyclecast.video.live.sinks.sink import MissingSink, SessionControls
from cyclecast.video.live.sinks.window_process import QUIT_KEYS, RIGHT, WINDOW_SLOTS, main
from cyclecast.video.live.slots import SlotWriter, bytes_needed, create_memory
from cyclecast.video.live.styling.styled_frame import StyledFrame

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 0.5  # that `show` waits for the window; one that is slower skips frames
EXIT_TIMEOUT_S = 2.0  # that a killed process may take to end
STATUS_INTERVAL_S = 0.5  # between two updates of the rate, so that it can be read
STRENGTH_STEP = 0.1  # by which a key changes the strength
SPLIT_STEP = 0.02  # of the width, by which an arrow key moves the line of the split view
DISPLAY_IS_GONE = re.compile(
    r"connection broke|fatal IO error|lost connection to", re.IGNORECASE
)  # Qt; Xlib, GTK; GTK on Wayland


class Window:
    """Shows frames in a window of a separate process. The first frame sets its size; the user can resize it.

    Each frame is written into shared memory when the window has shown the one before, so the window shows the newest frame.
    Raises OutputError if no window can open on this machine.
    """

    name = "window"

    def __init__(self, address: str, controls: SessionControls) -> None:
        if address != "window":
            raise OutputError(f"{address}: there is one window only: --sink window")
        problem = find_window_problem()
        if problem is not None:
            reason, fix = problem
            raise MissingSink(f"no window can open here ({reason}); {fix}, or use --sink web or --sink null")
        self._controls = controls
        self._waiting: StyledFrame | None = None  # the newest frame, until the window takes it
        self._number = 0  # of the last frame that the window got
        self._size: tuple[int, int] | None = None  # (width, height) of the frames in memory
        self._memory: SharedMemory | None = None
        self._slots: SlotWriter | None = None
        self._model = ""
        self._state: dict[str, Any] = {}
        self._figures, self._figures_until = "", 0.0
        self._recording: Path | None = None
        self._recording_since = 0.0
        self._is_closed = False
        self._failure: str | None = None
        self._is_shown = threading.Event()  # the window has shown every frame that it got
        self._is_shown.set()
        try:
            self._process = MessageProcess(main, "window")
        except OSError as error:
            raise MissingSink(f"the process of the window cannot be started ({error.strerror})") from error
        self._process.send({"title": f"cyclecast: {controls.feed.name}"})
        self._reader = threading.Thread(target=self._read, name="window-messages", daemon=True)
        self._reader.start()

    def show(self, frame: StyledFrame) -> None:
        """Shows one frame, waiting until it is on the screen. Raises OutputError if the display or the process is gone."""
        self._waiting = frame
        self.idle()

    def idle(self) -> None:
        """Updates the status; shows a frame that the window was too slow for. Raises what `show` raises."""
        if self._is_shown.wait(ANSWER_TIMEOUT_S) and self._failure is None and not self._is_closed:
            self._update()
            self._is_shown.wait(ANSWER_TIMEOUT_S)
        if self._failure is not None and not self._is_closed:
            raise OutputError(self._failure)

    def _update(self) -> None:
        """Sends the waiting frame, and the state if it has changed. The window must have shown the frame before."""
        frame, self._waiting = self._waiting, None
        if frame is not None:
            self._model = frame.model
        message = self._changed_state()
        if frame is not None:
            message |= self._write(frame.image)
        if message:
            self._process.send(message)

    def _write(self, image: Image) -> dict[str, Any]:
        """Writes a frame into shared memory; returns its message. Raises OutputError if there is no room for it."""
        height, width = image.shape[:2]
        message: dict[str, Any] = {}
        if self._size != (width, height):
            self._release_memory()
            size = bytes_needed(width, height, WINDOW_SLOTS)
            try:
                self._memory = create_memory(size)
            except OSError as error:
                raise OutputError(f"no shared memory for its frames, {size >> 20} MB ({error.strerror})") from error
            self._slots, self._size = SlotWriter(self._memory, width, height, WINDOW_SLOTS), (width, height)
            message = {"memory": self._memory.name, "size": [width, height]}
        assert self._slots is not None
        self._number += 1
        slot = self._slots.write(image, self._number)
        self._is_shown.clear()
        return message | {"frame": self._number, "slot": slot}

    def _changed_state(self) -> dict[str, Any]:
        """Returns the status and the seconds of a recording, for the overlay; empty if the window shows the same."""
        now, recording = time.perf_counter(), self._controls.recording
        if recording != self._recording:
            self._recording, self._recording_since = recording, now
        state = {
            "status": self._status_text(now),
            "recording": None if recording is None else int(now - self._recording_since),
        }
        if state == self._state:
            return {}
        self._state = state
        return dict(state)

    def _status_text(self, now: float) -> str:
        """Describes the model, the rate and the latency; the figures change slowly enough to be read."""
        if now >= self._figures_until:
            recent = self._controls.meter.recent()
            self._figures = f"{recent.fps:.1f} fps  latency {recent.latency_ms:.0f} ms"
            self._figures_until = now + STATUS_INTERVAL_S
        switcher = self._controls.switcher
        is_opening = switcher.requested_model != switcher.active_model
        opening = f"  opening {Path(switcher.requested_model).stem} ..." if is_opening else ""
        strength = f"  strength {switcher.strength:.2g}" if switcher.strength < 1 else ""
        return f"{Path(self._model).stem}{strength}  {self._figures}{opening}"

    def _read(self) -> None:
        """Handles the window's messages in a thread of its own, until its process ends."""
        failure = None
        try:
            for message in self._process.messages():
                if "shown" in message:
                    self._note_shown(message["shown"])
                elif "key" in message:
                    self._press(message["key"])
                elif "closed" in message:
                    self._quit()
                elif "error" in message:
                    failure = message["error"]
        except Exception as error:  # the process died in the middle of a message, or an action failed unexpectedly
            log.debug("reading the window's messages failed", exc_info=True)
            failure = failure_text(error)
        code = self._process.end(EXIT_TIMEOUT_S)
        self._failure = failure or self._describe_end(code)
        self._is_shown.set()

    def _describe_end(self, code: int | None) -> str:
        """Describes why the process ended without a message."""
        if any(DISPLAY_IS_GONE.search(line) for line in self._process.printed):
            return "the display is gone"
        if code is not None and code < 0:
            return f"its process was killed ({signal.Signals(-code).name})"
        return last_line("\n".join(self._process.printed)) or f"its process ended with exit code {code}"

    def _note_shown(self, number: int) -> None:
        if self._slots is not None:
            self._slots.release(number)
        self._unlink_memory()
        self._is_shown.set()

    def _press(self, key: str) -> None:
        try:
            self._handle(key)
        except CyclecastError as error:
            self._controls.report(str(error))
            self._show_note(str(error))

    def _handle(self, key: str) -> None:
        """Does what a key stands for. Raises CyclecastError if that fails."""
        queue, models = self._controls.queue, self._controls.switcher.models
        match key:
            case "n" | "p":
                queue.step_style(1 if key == "n" else -1).result()
                if len(models) == 1:
                    self._show_note("there is one model only")
            case key if key.isdigit() and key != "0":
                if int(key) > len(models):
                    self._show_note(f"there is no model {key}")
                else:
                    queue.set_style(int(key)).result()
            case "[" | "]" | "-" | "+" | "=":
                strength = queue.step_strength(-STRENGTH_STEP if key in "[-" else STRENGTH_STEP).result()
                self._show_note(f"strength {strength:.2g}")
            case "s":
                queue.toggle_split().result()
            case "left" | "right" | "," | ".":
                queue.step_split(SPLIT_STEP if key in (RIGHT, ".") else -SPLIT_STEP).result()
            case "m":
                queue.set_mirror(None).result()
            case " " | "c":
                self._show_note(f"saved {queue.save_snapshot().result().name}")
            case "r":
                path = queue.set_recording(None).result()
                self._show_note(f"recording to {path.name}" if path else "recorded")
            case key if key in QUIT_KEYS:
                self._quit()

    def _show_note(self, note: str) -> None:
        self._process.send({"note": note})

    def _quit(self) -> None:
        self._is_closed = True
        self._controls.quit()

    def close(self) -> None:
        """Closes the window and ends its process."""
        self._is_closed = True
        self._process.kill()
        self._reader.join(2 * EXIT_TIMEOUT_S)
        self._release_memory()

    def _release_memory(self) -> None:
        self._unlink_memory()
        if self._slots is not None:
            self._slots.close()
            self._slots = None

    def _unlink_memory(self) -> None:
        """Removes the memory's name once both processes have the memory: nothing is left behind, however they end."""
        memory, self._memory = self._memory, None
        if memory is not None:
            with suppress(FileNotFoundError):
                memory.unlink()
