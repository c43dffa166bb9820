"""The window as people use it: a real one on a screen of its own, with real keys and pictures of that screen."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from cyclecast.errors import OutputError
from cyclecast.video.clock import read_clock, seconds_since
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.frame import Image
from cyclecast.video.live.session import Session
from cyclecast.video.live.sinks.panel import AMBER, WHITE, draw_panel
from cyclecast.video.live.sinks.registry import open_sink
from cyclecast.video.live.sinks.window import KEYS, key_name, letterbox
from cyclecast.video.live.styling.style_switcher import BorrowedModel
from tests.conftest import Same
from tests.video.live.displays import LIMIT, Display, a_display, eventually, needs, quarters

LIVE = [sys.executable, "-m", "cyclecast", "live"]
DARK = 63  # the brightest ground that is written on
PLACE = (slice(9, 13), slice(9, 13))  # rows, columns: of the ground of the overlay, above its letters
HELP_PLACE = (slice(150, 160), slice(9, 13))


class Running:
    """`cyclecast live` with a window at the upper left of a display."""

    def __init__(self, display: Display, folder: Path, *arguments: str) -> None:
        self.display, self._log = display, folder / "said.txt"
        self.folder = folder / "work"
        self.folder.mkdir()
        with self._log.open("w") as log:
            command = [*LIVE, *arguments, "--sink", "window"]
            self.process = subprocess.Popen(command, env=display.environment, cwd=self.folder, stdout=log, stderr=log)
        self.size = (320, 240)
        self.window = ""

    def said(self) -> str:
        return self._log.read_text()

    def until(self, words: str, times: int = 1) -> None:
        eventually(lambda: self.said().count(words) >= times or self.process.poll() is not None, words)
        assert self.said().count(words) >= times, self.said()

    def open(self) -> None:
        self.until("monet on")
        self.window = self.display.window("cyclecast: ")
        eventually(lambda: bool(self.picture().any()) or self.process.poll() is not None, "a picture in the window")
        assert self.process.poll() is None, self.said()

    def picture(self) -> Image:
        """What the window shows."""
        width, height = self.size
        return self.display.picture()[:height, :width]

    def press(self, key: str) -> None:
        self.display.do("key", key)

    def clock(self) -> float:
        """The time in the picture, as soon as it can be read."""
        found: list[float] = []

        def readable() -> bool:
            seconds = read_clock(self.picture())
            if seconds is not None:
                found.append(seconds)
            return seconds is not None

        eventually(readable, "a clock in the window")
        return found[0]

    def dark(self, place: tuple[slice, slice]) -> bool:
        return bool(self.picture()[place].max() <= DARK)

    def line_at(self, column: int) -> bool:
        """Whether the white line of the split is there."""
        return bool((self.picture()[60:, column - 1 : column + 1] > 250).all())

    def ended(self) -> int:
        return self.process.wait(LIMIT)


@pytest.fixture(scope="module")
def display() -> Iterator[Display]:
    needs("Xvfb", "xdotool")
    pytest.importorskip("mss")
    with a_display(800, 600) as display:
        yield display


@contextmanager
def running(display: Display, folder: Path, *arguments: str) -> Iterator[Running]:
    live = Running(display, folder, *arguments)
    try:
        live.open()
        yield live
    finally:
        if live.process.poll() is None:
            live.process.kill()
        live.process.wait()


def test_the_picture_moves_and_is_not_late(display: Display, tmp_path: Path) -> None:
    with running(display, tmp_path, "pattern://320x240@15", "--model", "monet", "--split") as live:
        first, now = live.clock(), time.perf_counter()
        assert 0 < seconds_since(first, now) < 1.0
        eventually(lambda: seconds_since(first, live.clock()) > 0.2, "a later picture")
        assert live.display.do("getwindowname", live.window).startswith("cyclecast: pattern://320x240@15")
        assert re.search(r"Geometry: 320x240", live.display.do("getwindowgeometry", live.window))
        live.press("q")
        assert live.ended() == 0, live.said()
        assert "frames shown" in live.said()


def test_keys(display: Display, tmp_path: Path) -> None:
    with running(display, tmp_path, "pattern://320x240@15", "--model", "monet", "--model", "winter") as live:
        # models
        live.press("2")
        live.until("switched from monet to winter")
        live.press("n")
        live.until("switched from winter to monet")
        live.press("p")
        live.until("switched from monet to winter", times=2)
        live.press("1")
        live.until("switched from winter to monet", times=2)

        # split, mirror
        live.press("s")
        eventually(lambda: live.line_at(160), "a line in the middle")
        live.press("Right")
        eventually(lambda: live.line_at(166), "the line further to the right")
        live.press("comma")
        eventually(lambda: live.line_at(160), "the line back again")
        live.press("s")
        eventually(lambda: not live.line_at(160), "no line")
        live.press("m")
        eventually(lambda: read_clock(np.ascontiguousarray(live.picture()[:, ::-1])) is not None, "the clock in a mirror")
        live.press("m")
        assert live.clock() > 0

        # what is written
        eventually(lambda: live.dark(PLACE), "the overlay")
        assert not live.dark(HELP_PLACE)
        live.press("h")
        eventually(lambda: live.dark(HELP_PLACE), "the list of keys")
        live.press("h")
        eventually(lambda: not live.dark(HELP_PLACE), "no list of keys")
        live.press("o")
        eventually(lambda: not live.dark(PLACE), "no overlay")
        live.press("o")
        eventually(lambda: live.dark(PLACE), "the overlay again")

        # files
        live.press("space")
        live.until("saved cyclecast-")
        (snapshot,) = live.folder.glob("cyclecast-*.png")
        saved = cv2.imread(str(snapshot))
        assert saved is not None and saved.shape == (240, 320, 3)
        assert saved[PLACE].max() > DARK, "the overlay is for the window alone"
        live.press("r")
        live.until("recording to")
        eventually(lambda: _is_red(live.picture()[200:, 240:]), "the mark of the recording")
        (temporary,) = live.folder.glob("cyclecast-*.recording-*.mp4")
        eventually(lambda: temporary.stat().st_size > 0, "data in the recording")
        live.press("r")
        live.until("recorded cyclecast-")
        eventually(lambda: not _is_red(live.picture()[200:, 240:]), "no recording mark")
        (path,) = live.folder.glob("cyclecast-*.mp4")
        with VideoFile(path) as video:
            frames = list(video)
        assert frames and frames[0].image.shape == (240, 320, 3)
        assert frames[-1].image[PLACE].max() > DARK

        live.press("Escape")
        assert live.ended() == 0, live.said()


def _is_red(image: Image) -> bool:
    """Whether something in it is written in the red of a recording's mark."""
    blue, green, red = (image[..., channel].astype(int) for channel in range(3))
    return int(((red > 180) & (blue < 90) & (green < 90)).sum()) > 10


def test_the_window_keeps_the_shape_fails_softly_and_ends_the_run_when_it_is_closed(display: Display, tmp_path: Path) -> None:
    with running(display, tmp_path, "pattern://320x240@15", "--model", "monet", "--split") as live:
        display.do("windowsize", live.window, "400", "500")
        live.size = (400, 500)
        eventually(lambda: not live.picture()[420:].any() and bool(live.picture()[380].any()), "black above and below")
        eventually(lambda: read_clock(live.picture()[100:400]) is not None, "the clock in the middle of the window")

        shutil.rmtree(live.folder)
        live.press("c")
        live.until("cannot be written")
        first = read_clock(live.picture()[100:400])
        eventually(lambda: read_clock(live.picture()[100:400]) not in (None, first), "it goes on")

        display.ask_to_close(live.window)
        assert live.ended() == 0, live.said()


def test_the_window_lives_while_no_picture_comes(display: Display, tmp_path: Path) -> None:
    with running(display, tmp_path, "pattern://320x240@0.5", "--model", "monet", "--split") as live:
        before = live.picture()
        live.press("h")
        eventually(lambda: live.dark(HELP_PLACE), "the list of keys")
        free = slice(60, 180), slice(200, 320)  # where nothing is written
        assert np.array_equal(live.picture()[free], before[free]), "it took a new picture to show the list"
        live.press("q")
        assert live.ended() == 0, live.said()


def test_opencv_loads_before_pyav() -> None:
    """With the opposite order, OpenCV's wheel uses PyAV's libxcb, and `cv2.namedWindow` never returns."""
    code = "import sys, cyclecast.video.live.session; print([name for name in sys.modules if name in ('av', 'cv2')])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT)
    assert process.stdout == "['cv2', 'av']\n", process.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have a display")
@pytest.mark.parametrize(
    ("name", "why"),
    [(None, "no display: neither DISPLAY nor WAYLAND_DISPLAY is set"), (":97", r"[^;]*:97")],
    ids=["not set", "nobody there"],
)
def test_where_no_window_can_open_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch, name: str | None, why: str) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if name:
        monkeypatch.setenv("DISPLAY", name)
    with pytest.raises(OutputError, match=rf"^no window can open here \({why}\); .*--sink web or --sink null$"):
        Session("pattern://160x96@15", ["same"], lambda name: BorrowedModel(name, Same()), ["window"], open_sink)


def test_there_is_one_window_only() -> None:
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
def test_keys_have_one_name_on_every_system(code: int, name: str) -> None:
    assert key_name(code) == name


def test_a_framed_picture_keeps_its_shape_and_its_colors() -> None:
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
def test_what_is_written_can_be_read_over_anything(size: tuple[int, int], gray: int) -> None:
    image = np.full((size[1], size[0], 3), gray, np.uint8)
    below = draw_panel(image, [[("monet  29.8 fps  latency 23 ms", WHITE)]])
    bottom = draw_panel(image, [[(key, AMBER), (meaning, WHITE)] for key, meaning in KEYS], top=below)
    assert 0 < below < bottom < size[1]
    written = np.argwhere((image != gray).any(axis=2))
    left = written[:, 1].min()
    assert image[below - 2 : below, left : left + 3].max() <= DARK, "the ground is dark"
    assert image[:below].max() >= 200 and image[below:].max() >= 200, "letters are bright"
    before = image.copy()
    draw_panel(image, [[("REC", (60, 60, 255)), ("0:12", WHITE)]], corner=True)
    corner = np.argwhere((image != before).any(axis=2))
    assert corner[:, 0].min() > bottom or corner[:, 1].min() > size[0] // 2, "at the lower right, beside the rest"


def test_what_is_written_stays_inside_of_small_pictures() -> None:
    for width, height in ((96, 96), (16, 16), (400, 16), (16, 400)):
        image = np.full((height + 2, width + 2, 3), 255, np.uint8)
        inside = image[1:-1, 1:-1]
        bottom = draw_panel(inside, [[(key, AMBER), (meaning, WHITE)] for key, meaning in KEYS])
        draw_panel(inside, [[("REC", (60, 60, 255)), ("0:12", WHITE)]], corner=True)
        assert bottom <= height
        assert image[[0, -1]].min() == 255 and image[:, [0, -1]].min() == 255
