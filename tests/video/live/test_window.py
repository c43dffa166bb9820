"""The window on a virtual screen, with real keys and screenshots."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest

from cyclecast.errors import OutputError
from cyclecast.video.clock import read_clock, seconds_since
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.frame import Image
from cyclecast.video.live.meter import Meter
from cyclecast.video.live.session import Session
from cyclecast.video.live.sinks.panel import AMBER, WHITE, draw_panel
from cyclecast.video.live.sinks.registry import open_sink
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sinks.window import Window
from cyclecast.video.live.sinks.window_process import KEYS, key_name
from cyclecast.video.live.styling.open_model import BorrowedModel
from cyclecast.video.live.styling.styled_frame import StyledFrame
from cyclecast.video.resize import letterbox
from tests.conftest import Same
from tests.video.live.displays import LIMIT, Display, eventually, open_display, quarters, require_programs

LIVE = [sys.executable, "-m", "cyclecast", "live"]
DARK = 63  # the brightest background of text
OVERLAY_AREA = (slice(9, 13), slice(9, 13))  # rows, columns: background of the overlay, above its letters
HELP_AREA = (slice(150, 160), slice(9, 13))


class LiveProcess:
    """`cyclecast live` with a window at the upper left of a display."""

    def __init__(self, display: Display, folder: Path, *arguments: str) -> None:
        self.display, self._log = display, folder / "log.txt"
        self.folder = folder / "work"
        self.folder.mkdir()
        with self._log.open("w") as log:
            command = [*LIVE, *arguments, "--sink", "window"]
            self.process = subprocess.Popen(
                command, env=display.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.size = (320, 240)
        self.window = ""

    def log_text(self) -> str:
        return self._log.read_text()

    def wait_for_log(self, words: str, times: int = 1) -> None:
        eventually(lambda: self.log_text().count(words) >= times or self.process.poll() is not None, words)
        assert self.log_text().count(words) >= times, self.log_text()

    def open(self) -> None:
        self.wait_for_log("monet on")
        self.window = self.display.find_window("cyclecast: ")
        eventually(lambda: bool(self.screenshot().any()) or self.process.poll() is not None, "a frame in the window")
        assert self.process.poll() is None, self.log_text()

    def screenshot(self) -> Image:
        """The area of the window, (H, W, 3) uint8 BGR."""
        width, height = self.size
        return self.display.screenshot()[:height, :width]

    def press(self, key: str) -> None:
        self.display.xdotool("key", key)

    def clock(self) -> float:
        """Waits until the clock in the frame can be read, and returns its time."""
        found: list[float] = []

        def is_readable() -> bool:
            seconds = read_clock(self.screenshot())
            if seconds is not None:
                found.append(seconds)
            return seconds is not None

        eventually(is_readable, "a clock in the window")
        return found[0]

    def is_dark(self, area: tuple[slice, slice]) -> bool:
        return bool(self.screenshot()[area].max() <= DARK)

    def has_split_line(self, column: int) -> bool:
        """Whether the white line of the split view is at this column."""
        return bool((self.screenshot()[60:, column - 1 : column + 1] > 250).all())

    def exit_code(self) -> int:
        return self.process.wait(LIMIT)


@pytest.fixture(scope="module")
def display() -> Iterator[Display]:
    require_programs("Xvfb", "xdotool")
    pytest.importorskip("mss")
    with open_display(800, 600) as display:
        yield display


@contextmanager
def start_live(display: Display, folder: Path, *arguments: str) -> Iterator[LiveProcess]:
    live = LiveProcess(display, folder, *arguments)
    try:
        live.open()
        yield live
    finally:
        if live.process.poll() is None:
            live.process.kill()
        live.process.wait()


def test_keys(display: Display, tmp_path: Path) -> None:
    models = (
        "--model",
        "monet",
        "--model",
        "pencil",
        "--strength",
        "0.55",
    )  # so that the clock is readable, and no red of the pattern is left
    with start_live(display, tmp_path, "pattern://320x240@15", *models) as live:
        # models
        live.press("2")
        live.wait_for_log("switched from monet to pencil")
        live.press("n")
        live.wait_for_log("switched from pencil to monet")
        live.press("p")
        live.wait_for_log("switched from monet to pencil", times=2)
        live.press("1")
        live.wait_for_log("switched from pencil to monet", times=2)

        # split, mirror
        live.press("s")
        eventually(lambda: live.has_split_line(160), "a line in the middle")
        live.press("Right")
        eventually(lambda: live.has_split_line(166), "the line further to the right")
        live.press("comma")
        eventually(lambda: live.has_split_line(160), "the line back again")
        live.press("s")
        eventually(lambda: not live.has_split_line(160), "no line")
        live.press("m")
        eventually(lambda: read_clock(np.ascontiguousarray(live.screenshot()[:, ::-1])) is not None, "the clock in a mirror")
        live.press("m")
        assert live.clock() > 0

        # overlay and list of keys
        eventually(lambda: live.is_dark(OVERLAY_AREA), "the overlay")
        assert not live.is_dark(HELP_AREA)
        live.press("h")
        eventually(lambda: live.is_dark(HELP_AREA), "the list of keys")
        live.press("h")
        eventually(lambda: not live.is_dark(HELP_AREA), "no list of keys")
        live.press("o")
        eventually(lambda: not live.is_dark(OVERLAY_AREA), "no overlay")
        live.press("o")
        eventually(lambda: live.is_dark(OVERLAY_AREA), "the overlay again")

        # files
        live.press("space")
        live.wait_for_log("saved cyclecast-")
        (snapshot,) = live.folder.glob("cyclecast-*.png")
        saved = cv2.imread(str(snapshot))
        assert saved is not None and saved.shape == (240, 320, 3)
        assert saved[OVERLAY_AREA].max() > DARK, "the overlay is for the window alone"
        live.press("r")
        live.wait_for_log("recording to")
        eventually(lambda: _is_red(live.screenshot()[200:, 240:]), "the recording mark")
        (temporary,) = live.folder.glob("cyclecast-*.recording-*.mp4")
        eventually(lambda: temporary.stat().st_size > 0, "data in the recording")
        live.press("r")
        live.wait_for_log("recorded cyclecast-")
        eventually(lambda: not _is_red(live.screenshot()[200:, 240:]), "no recording mark")
        (path,) = live.folder.glob("cyclecast-*.mp4")
        with VideoFile(path) as video:
            frames = list(video)
        assert frames and frames[0].image.shape == (240, 320, 3)
        assert frames[-1].image[OVERLAY_AREA].max() > DARK

        live.press("Escape")
        assert live.exit_code() == 0, live.log_text()


def test_the_window_shows_recent_frames_and_keys_change_the_strength(display: Display, tmp_path: Path) -> None:
    arguments = ("pattern://320x240@15", "--model", "monet", "--strength", "0.15", "--split", "--verbose")
    with start_live(display, tmp_path, *arguments) as live:
        first, now = live.clock(), time.perf_counter()
        assert 0 < seconds_since(first, now) < 1.0
        eventually(lambda: seconds_since(first, live.clock()) > 0.2, "a later frame")
        assert live.display.xdotool("getwindowname", live.window).startswith("cyclecast: pattern://320x240@15")
        assert re.search(r"Geometry: 320x240", live.display.xdotool("getwindowgeometry", live.window))

        for key, strength in (("", "0.15"), ("bracketleft", "0.05"), ("minus", "0"), ("bracketright", "0.1"), ("plus", "0.2")):
            if key:
                live.press(key)
            live.wait_for_log(f", strength {strength},")
        live.press("q")
        assert live.exit_code() == 0, live.log_text()
        assert "frames shown" in live.log_text()


def _is_red(image: Image) -> bool:
    """Whether the image contains the red of the recording mark."""
    blue, green, red = (image[..., channel].astype(int) for channel in range(3))
    return int(((red > 180) & (blue < 90) & (green < 90)).sum()) > 10


def test_the_window_keeps_the_aspect_ratio_survives_a_failed_snapshot_and_ends_the_run_when_closed(
    display: Display, tmp_path: Path
) -> None:
    with start_live(display, tmp_path, "pattern://320x240@15", "--model", "monet", "--split") as live:
        display.xdotool("windowsize", live.window, "400", "500")
        live.size = (400, 500)
        eventually(lambda: not live.screenshot()[420:].any() and bool(live.screenshot()[380].any()), "black above and below")
        eventually(lambda: read_clock(live.screenshot()[100:400]) is not None, "the clock in the middle of the window")

        shutil.rmtree(live.folder)
        live.press("c")
        live.wait_for_log("cannot be written")
        first = read_clock(live.screenshot()[100:400])
        eventually(lambda: read_clock(live.screenshot()[100:400]) not in (None, first), "a later frame")

        display.close_window(live.window)
        assert live.exit_code() == 0, live.log_text()


def test_the_window_responds_while_no_frame_arrives(display: Display, tmp_path: Path) -> None:
    with start_live(display, tmp_path, "pattern://320x240@0.5", "--model", "monet", "--split") as live:
        before = live.screenshot()
        live.press("h")
        eventually(lambda: live.is_dark(HELP_AREA), "the list of keys")
        free = slice(60, 180), slice(220, 320)  # without text
        assert np.array_equal(live.screenshot()[free], before[free]), "the list appeared only with a new frame"
        os.killpg(live.process.pid, signal.SIGINT)  # Ctrl-C in a terminal reaches all processes of the run
        assert live.exit_code() == 0, live.log_text()
        assert "failed" not in live.log_text()


def test_when_the_display_goes_away_only_the_window_fails(tmp_path: Path) -> None:
    require_programs("xdotool")
    arguments = ("pattern://320x240@15", "--model", "monet", "--sink", "show.mp4")
    with open_display(800, 600) as display, start_live(display, tmp_path, *arguments) as live:
        (temporary,) = live.folder.glob("show.recording-*.mp4")
        display.kill()
        gone_at = time.perf_counter()
        live.wait_for_log("window failed and gets no more frames: the display is gone\n")
        size = temporary.stat().st_size
        eventually(lambda: temporary.stat().st_size > size + 10_000, "more frames in the recording")
        seconds_without = time.perf_counter() - gone_at
        live.process.send_signal(signal.SIGINT)
        assert live.exit_code() == 1, live.log_text()
        with VideoFile(live.folder / "show.mp4") as video:
            frames = list(video)
        seconds = float(frames[-1].pts * video.info.time_base)
        assert seconds > 0.7 * seconds_without, "the recording ended with the window"
        assert len(frames) > 5 * seconds
        assert "window" not in live.log_text().partition("the display is gone")[2], "one line only"


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def window_processes() -> list[int]:
    """Those that this process started."""
    ids = map(int, Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())
    return [one for one in ids if is_running(one) and b"window_process" in Path(f"/proc/{one}/cmdline").read_bytes()]


def named_memory() -> list[str]:
    """Shared memory of this process that has a name."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if "/dev/shm/psm_" in line and "(deleted)" not in line]


def make_window(monkeypatch: pytest.MonkeyPatch, display: Display) -> Window:
    """A window on this display without a run."""
    monkeypatch.setenv("DISPLAY", display.name)
    monkeypatch.setenv("XAUTHORITY", "/dev/null")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    switcher = SimpleNamespace(requested_model="same", active_model="same", strength=1.0)
    feed = SimpleNamespace(name="a test")
    controls = SimpleNamespace(switcher=switcher, meter=Meter(), feed=feed, recording=None)
    return Window("window", cast(SessionControls, controls))


def make_frame(width: int, height: int, gray: int) -> StyledFrame:
    image = np.full((height, width, 3), gray, np.uint8)
    return StyledFrame(1, time.perf_counter(), image, image, "same")


def test_the_process_of_a_window_may_stop_and_die(display: Display, monkeypatch: pytest.MonkeyPatch) -> None:
    window = make_window(monkeypatch, display)

    def shows(gray: int) -> Callable[[], bool]:
        return lambda: tuple(display.screenshot()[180, 250]) == (gray,) * 3

    def becomes_idle(condition: Callable[[], bool]) -> bool:
        window.idle()
        return condition()

    try:
        window.show(make_frame(320, 240, 100))
        eventually(shows(100), "the first frame")
        window.show(make_frame(640, 480, 110))  # another size, the same window
        eventually(shows(110), "a larger frame")
        assert not named_memory(), "the memory has no name as soon as both processes have it"
        (process,) = window_processes()
        os.kill(process, signal.SIGINT)  # Ctrl-C in the terminal reaches it too

        os.kill(process, signal.SIGSTOP)
        for gray in (120, 130, 140):
            window.show(make_frame(640, 480, gray))  # returns
        assert shows(110)()
        os.kill(process, signal.SIGCONT)
        eventually(lambda: becomes_idle(shows(140)), "the newest frame")

        os.kill(process, signal.SIGKILL)
        with pytest.raises(OutputError, match=r"^its process was killed \(SIGKILL\)$"):
            eventually(lambda: becomes_idle(lambda: False), "an error")
    finally:
        window.close()
    assert not window_processes() and not named_memory()


def test_the_process_of_a_window_ends_with_a_killed_run() -> None:
    code = (
        "import time; from cyclecast.video.live.message_process import MessageProcess as P; from cyclecast.video.live.sinks."
        "window_process import main; p = P(main, 'window'); print(p._process.pid, flush=True); time.sleep(99)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        window = int(run.stdout.readline())
        assert is_running(window)
        run.kill()
    eventually(lambda: not is_running(window), "the end of the window's process")


def test_opencv_loads_before_pyav() -> None:
    """With the opposite order, OpenCV's wheel uses PyAV's libxcb, and `cv2.namedWindow` never returns."""
    loaded = "print([name for name in sys.modules if name in ('av', 'cv2')])"
    code = f"import sys, cyclecast.video.live.sinks.window_process; {loaded}; import cyclecast.video.live.session; {loaded}"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT)
    assert process.stdout == "['cv2']\n['cv2', 'av']\n", process.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have a display")
@pytest.mark.parametrize(
    ("name", "reason"),
    [(None, "no display: neither DISPLAY nor WAYLAND_DISPLAY is set"), (":97", r"[^;]*:97")],
    ids=["not set", "no server"],
)
def test_a_missing_display_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str | None, reason: str) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if name:
        monkeypatch.setenv("DISPLAY", name)
    with pytest.raises(OutputError, match=rf"^no window can open here \({reason}\); .*--sink web or --sink null$"):
        Session("pattern://160x96@15", ["same"], lambda name: BorrowedModel(name, Same()), ["window"], open_sink)


def test_a_second_window_is_an_error() -> None:
    with pytest.raises(OutputError, match="^window://left: there is one window only: --sink window$"):
        Session("pattern://160x96@15", ["same"], lambda name: BorrowedModel(name, Same()), ["window://left"], open_sink)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (ord("n"), "n"),
        (ord("N"), "n"),
        (0x100000 + ord("n"), "n"),  # GTK with Num Lock
        (0xFF51, "left"),
        (0x10FF53, "right"),
        (0x250000, "left"),  # Windows
        (0xF703, "right"),  # macOS
        (27, "esc"),
        (0xFFBE, ""),  # F1
        (0xFFE1, ""),  # Shift
    ],
)
def test_keys_have_the_same_name_on_every_system(code: int, name: str) -> None:
    assert key_name(code) == name


def test_letterbox_keeps_the_aspect_ratio_and_the_colors() -> None:
    image = quarters(64, 48)
    assert letterbox(image, (64, 48)) is image and letterbox(image, (0, 0)) is image
    wide = letterbox(image, (200, 96))
    assert wide.shape == (96, 200, 3)
    assert not wide[:, :36].any() and not wide[:, 164:].any()
    assert tuple(wide[5, 40]) == (255, 0, 0) and tuple(wide[90, 40]) == (0, 0, 255) and tuple(wide[5, 160]) == (0, 255, 0)
    tall = letterbox(image, (16, 100))
    assert tall.shape == (100, 16, 3) and tall[44:56].any(axis=2).all() and not tall[:43].any() and not tall[57:].any()


@pytest.mark.parametrize("size", [(320, 240), (1280, 720), (240, 426), (1920, 1080)])
@pytest.mark.parametrize("gray", [0, 128, 255])
def test_text_is_readable_on_any_background(size: tuple[int, int], gray: int) -> None:
    image = np.full((size[1], size[0], 3), gray, np.uint8)
    below = draw_panel(image, [[("monet  29.8 fps  latency 23 ms", WHITE)]])
    bottom = draw_panel(image, [[(key, AMBER), (meaning, WHITE)] for key, meaning in KEYS], top=below)
    assert 0 < below < bottom < size[1]
    changed = np.argwhere((image != gray).any(axis=2))
    left = changed[:, 1].min()
    assert image[below - 2 : below, left : left + 3].max() <= DARK, "the background is dark"
    assert image[:below].max() >= 200 and image[below:].max() >= 200, "letters are bright"
    before = image.copy()
    draw_panel(image, [[("REC", (60, 60, 255)), ("0:12", WHITE)]], corner=True)
    corner = np.argwhere((image != before).any(axis=2))
    assert corner[:, 0].min() > bottom or corner[:, 1].min() > size[0] // 2, "at the lower right, beside the rest"


def test_text_stays_inside_small_frames() -> None:
    for width, height in ((96, 96), (16, 16), (400, 16), (16, 400)):
        image = np.full((height + 2, width + 2, 3), 255, np.uint8)
        inside = image[1:-1, 1:-1]
        bottom = draw_panel(inside, [[(key, AMBER), (meaning, WHITE)] for key, meaning in KEYS])
        draw_panel(inside, [[("REC", (60, 60, 255)), ("0:12", WHITE)]], corner=True)
        assert bottom <= height
        assert image[[0, -1]].min() == 255 and image[:, [0, -1]].min() == 255
