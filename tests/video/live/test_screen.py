"""A screen as a source: exact pixels, at an even rate, of one monitor or a region of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from cyclecast.errors import InputError
from cyclecast.video.live.capture.client import Capture
from cyclecast.video.live.sources import screen
from cyclecast.video.live.sources.screen import open_screen, parse_screen
from cyclecast.video.live.sources.source import CaptureSettings
from tests.video.live.displays import Display, eventually, open_display, quarters, require_programs

WIDTH, HEIGHT = 640, 400
SHOW = """
import cv2
from cyclecast.video.live.sinks.window_process import share_x11
from tests.video.live.displays import quarters
share_x11()
cv2.namedWindow("quarters", cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL)
cv2.resizeWindow("quarters", 320, 200)
while True:
    cv2.imshow("quarters", quarters(320, 200))
    cv2.waitKey(20)
"""
FRAME = quarters(320, 200)


@pytest.fixture(scope="module")
def display() -> Iterator[Display]:
    """A black screen with an OpenCV window in its upper left quarter."""
    pytest.importorskip("mss")
    with open_display(WIDTH, HEIGHT) as display:
        window = subprocess.Popen([sys.executable, "-c", SHOW], env=display.environment, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: np.array_equal(display.screenshot()[:200, :320], FRAME), "the window is on the screen")
            yield display
        finally:
            window.kill()
            window.wait()


@pytest.fixture
def here(display: Display, monkeypatch: pytest.MonkeyPatch) -> Display:
    """Makes that screen the one of this process."""
    monkeypatch.setenv("DISPLAY", display.name)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return display


@pytest.mark.parametrize("address", ["screen", "screen://", "screen://0", "screen://0/"])
def test_a_screen_is_captured_pixel_for_pixel(here: Display, address: str) -> None:
    source = open_screen(address, CaptureSettings())
    assert source.description == f"screen 0: {WIDTH}x{HEIGHT} at 30 fps"
    image = next(source.pending_frames).decode()
    assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8
    assert np.array_equal(image[:200, :320], FRAME)
    assert not image[200:].any() and not image[:, 320:].any()


def test_a_region_of_a_screen_is_captured(here: Display) -> None:
    source = open_screen("screen://0?x=100&y=50&width=120&height=96", CaptureSettings())
    assert source.description == "screen 0: 120x96 at 30 fps"
    assert np.array_equal(next(source.pending_frames).decode(), FRAME[50:146, 100:220])
    rest = open_screen("screen://?x=100&y=50", CaptureSettings())
    assert next(rest.pending_frames).decode().shape == (HEIGHT - 50, WIDTH - 100, 3)


def test_the_second_monitor_is_captured(here: Display) -> None:
    require_programs("xrandr")
    for name, place, output in (("left", "+0+0", "screen"), ("right", "+160+100", "none")):
        monitor = ["xrandr", "--setmonitor", name, f"160/42x120/32{place}", output]
        subprocess.run(monitor, env=here.environment, check=True, capture_output=True, timeout=60)
    try:
        assert np.array_equal(next(open_screen("screen://0", CaptureSettings()).pending_frames).decode(), FRAME[:120, :160])
        assert np.array_equal(
            next(open_screen("screen://1?width=40", CaptureSettings()).pending_frames).decode()[:100], FRAME[100:200, 160:200]
        )
        with pytest.raises(InputError, match=r"^screen://2: no such screen; type screen://0 to screen://1$"):
            open_screen("screen://2", CaptureSettings())
    finally:
        for name in ("left", "right"):
            subprocess.run(["xrandr", "--delmonitor", name], env=here.environment, check=True, capture_output=True, timeout=60)


def test_frames_arrive_at_the_requested_rate(here: Display) -> None:
    times = [pending_frame.at for pending_frame in islice(open_screen("screen", CaptureSettings(fps=50)).pending_frames, 26)]
    steps = np.diff(times)
    assert np.median(steps) == pytest.approx(0.02, rel=0.15)
    assert (steps > 0).all()


def test_missed_frames_are_not_caught_up(here: Display) -> None:
    pending_frames = open_screen("screen", CaptureSettings(fps=20)).pending_frames
    pause_end = next(pending_frames).at + 0.4
    eventually(lambda: time.perf_counter() > pause_end, "a pause of eight frames")
    times = [pending_frame.at for pending_frame in islice(pending_frames, 4)]
    assert np.diff(times).min() > 0.03


class FlakyScreens:
    """An mss.MSS whose second screenshot fails, as while the resolution changes, and whose third is incomplete."""

    def __init__(self) -> None:
        self.monitors = [{}, {"left": 0, "top": 0, "width": 4, "height": 2}]
        self.count = 0

    def grab(self, area: dict[str, int]) -> SimpleNamespace:
        self.count += 1
        if self.count == 3:
            raise FlakyMss.ScreenShotError("XGetImage() failed")
        return SimpleNamespace(raw=bytes([self.count] * (31 if self.count == 4 else 32)), width=4, height=2)


class FlakyMss:
    MSS = FlakyScreens

    class ScreenShotError(Exception): ...


def test_a_torn_screenshot_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(screen, "load_mss", lambda: FlakyMss)
    decoded: list[int | str] = []
    for pending_frame in islice(open_screen("screen", CaptureSettings(fps=100)).pending_frames, 4):
        try:
            decoded.append(int(pending_frame.decode()[0, 0, 0]))
        except InputError as error:
            decoded.append(str(error))
    assert decoded[::3] == [2, 5]
    assert decoded[1] == "screen: the screen cannot be captured (XGetImage() failed)"
    assert str(decoded[2]).startswith("a screenshot is incomplete")


def test_a_live_run_captures_the_screen_in_another_process(here: Display) -> None:
    messages: list[str] = []
    with Capture("screen://0?width=320&height=200", CaptureSettings(fps=20), messages.append) as capture:
        captured = capture.take(60)
    assert captured is not None and np.array_equal(captured.image, FRAME)
    assert "screen 0: 320x200 at 20 fps" in messages


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("screen://1", r"^screen://1: no such screen; type screen://0$"),
        ("screen://0?x=600&width=100", "leaves the screen, which is 640x400$"),
        ("screen://0?x=640", "the region is empty or leaves the screen"),
        ("screen://0?height=0", "the region is empty"),
        ("screen://0?left=5", r"not a screen; type screen, screen://1, or a region such as screen://0\?x=100"),
        ("screen://0?x=-5", "not a screen"),
        ("screen://0?x=", "not a screen"),
        ("screen://front", "not a screen"),
    ],
)
def test_a_missing_screen_or_region_is_an_error_in_one_line(here: Display, address: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_screen(address, CaptureSettings())
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have a display")
@pytest.mark.parametrize("name", [None, ":97"])
def test_a_missing_display_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    pytest.importorskip("mss")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if name:
        monkeypatch.setenv("DISPLAY", name)
    with pytest.raises(InputError, match=r"^screen: .*; set DISPLAY to an X server that this user may access$"):
        open_screen("screen", CaptureSettings())


def test_a_wayland_desktop_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mss")
    with open_display(320, 200) as black:
        monkeypatch.setenv("DISPLAY", black.name)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert not next(open_screen("screen", CaptureSettings()).pending_frames).decode().any()  # black, which is legitimate here
        monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
        with pytest.raises(InputError, match=r"^screen: every pixel is black; the desktop runs on Wayland"):
            open_screen("screen", CaptureSettings())


def test_the_missing_library_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mss", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"^mss is not installed: pip install 'cyclecast\[live\]'$"):
        open_screen("screen", CaptureSettings())


def test_an_address_has_a_number_and_a_region() -> None:
    assert parse_screen("screen") == (0, {})
    assert parse_screen("screen://3?y=2&x=1&height=4&width=5") == (3, {"y": 2, "x": 1, "height": 4, "width": 5})
