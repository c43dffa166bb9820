"""Parts of a live run: the clock in the frame, the meter, the newest item, and the governor of the height."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from cyclecast.video.clock import WRAP_MS, draw_clock, read_clock, seconds_since
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.process import shrink
from cyclecast.video.live.meter import STRETCHES, Histogram, Meter
from cyclecast.video.live.newest import Newest
from cyclecast.video.live.sources.source import CaptureSettings
from cyclecast.video.live.styling.governor import STEPS, Governor
from cyclecast.video.live.styling.open_model import BorrowedModel
from cyclecast.video.live.styling.style_switcher import StyleSwitcher
from cyclecast.video.live.styling.styled_frame import StyledFrame, split_view, with_notice
from tests.conftest import Same


@pytest.mark.parametrize("size", [(1280, 720), (320, 240), (161, 97), (1920, 1080)])
def test_the_clock_is_read_to_a_millisecond(size: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    for seconds in (0.0, 12.345, WRAP_MS / 1000 - 0.001, *random.uniform(0, WRAP_MS / 1000, 20)):
        image = random.integers(0, 255, (size[1], size[0], 3), np.uint8)
        draw_clock(image, seconds)
        assert read_clock(image) == pytest.approx(round(seconds, 3) % (WRAP_MS / 1000), abs=1e-6)


def test_the_clock_survives_another_size_and_a_strong_encoder() -> None:
    image = np.full((720, 1280, 3), 90, np.uint8)
    draw_clock(image, 7.5)
    small = cv2.resize(image, (426, 240), interpolation=cv2.INTER_AREA)
    rough = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_COLOR)
    assert read_clock(np.asarray(small, np.uint8)) == read_clock(np.asarray(rough, np.uint8)) == 7.5


def test_a_picture_without_a_clock_is_not_read_as_one() -> None:
    random = np.random.default_rng(2)
    for _ in range(300):
        assert read_clock(random.integers(0, 255, (120, 160, 3), np.uint8)) is None
    assert read_clock(np.zeros((120, 160, 3), np.uint8)) is None
    assert read_clock(np.zeros((16, 16, 3), np.uint8)) is None


def test_a_clock_that_a_style_painted_over_is_not_read_as_another_time() -> None:
    random = np.random.default_rng(4)
    for _ in range(2000):
        image = np.full((96, 160, 3), 90, np.uint8)
        draw_clock(image, random.uniform(0, WRAP_MS / 1000))
        for square in random.choice(32, random.integers(4, 17), replace=False):
            row, column = divmod(int(square), 8)
            bottom = 96 - 4 * row  # squares of 4 pixels; those of the first row, which set the threshold, stay
            image[bottom - 4 : bottom, 4 * column : 4 * column + 4] ^= 0xFF
        assert read_clock(image) is None


def test_the_clock_turns_over() -> None:
    assert seconds_since(WRAP_MS / 1000 - 0.5, 0.25) == pytest.approx(0.75)
    assert seconds_since(0.25, WRAP_MS / 1000 - 0.5) == pytest.approx(-0.75)


def test_percentiles_are_exact_to_a_hundredth() -> None:
    values = np.random.default_rng(3).lognormal(-4, 1, 5000)
    histogram = Histogram()
    for value in values:
        histogram.add(float(value))
    got = histogram.percentiles()
    for share, ours in ((50, got.p50), (95, got.p95), (99, got.p99)):
        assert ours == pytest.approx(1000 * np.percentile(values, share), rel=0.015)
    assert got.max == pytest.approx(1000 * values.max(), abs=0.01)
    assert Histogram().percentiles().p99 == 0


def test_a_meter_stays_small_and_knows_whether_latency_grows() -> None:
    steady, growing = Meter(), Meter()
    for second in range(100_000):
        steady.add_shown(0.020, now=float(second))
        growing.add_shown(0.020 + second * 1e-6, now=float(second))
    assert steady.quarters() == pytest.approx([20.0] * 4)
    assert growing.quarters() == pytest.approx([32.5, 57.5, 82.5, 107.5], abs=2)
    assert len(growing._stretches) <= 2 * STRETCHES
    assert len(growing._recent) < 10
    assert growing.fps == pytest.approx(1.0)
    assert sys.getsizeof(growing._recent) < 10_000


def test_the_newest_item_takes_the_place_of_what_nobody_took() -> None:
    place: Newest[int] = Newest()
    assert place.take(0.0) is None
    assert place.put(1) is None
    assert place.put(2) == 1
    assert place.take(1.0) == 2
    threading.Timer(0.05, place.close).start()
    began = time.monotonic()
    assert place.take(30.0) is None and place.closed
    assert time.monotonic() - began < 10


class Timed(Same):
    """Takes as long as 16:9 frames of its height would, on a clock of the test's own."""

    now = 0.0
    per_megapixel = 0.060

    def __call__(self, frame: Image) -> Image:
        type(self).now += self.per_megapixel * frame.shape[0] ** 2 * 16 / 9 / 1e6
        return frame


def governed(fps: float, work_height: int | None = None) -> tuple[StyleSwitcher, Callable[[float], list[int]]]:
    """Returns a switcher under a governor, and a function that runs it for some seconds and returns the heights of its frames."""
    Timed.now, Timed.per_megapixel = 0.0, 0.060
    function, frame = Timed(), np.zeros((720, 16, 3), np.uint8)
    switcher = StyleSwitcher(["timed"], lambda name: BorrowedModel(name, function), work_height)
    switcher.prepare(16, 720)
    governor = Governor(switcher, fps, clock=lambda: Timed.now)

    def run(seconds: float) -> list[int]:
        end, heights = Timed.now + seconds, []
        while Timed.now < end:
            began = Timed.now
            switcher(frame)
            heights.append(switcher.work_height or 720)
            governor.observe(720, Timed.now - began)
            Timed.now = max(Timed.now, began + 1 / 30)
            limit = time.monotonic() + 10
            while switcher.work_height != governor._target and time.monotonic() < limit:  # opened beside, in another thread
                switcher._activate_ready()
        return heights

    return switcher, run


def test_the_height_falls_until_the_rate_is_kept_and_no_further() -> None:
    switcher, run = governed(fps=25)  # 720 lines take 55 ms
    try:
        heights = run(20.0)
    finally:
        switcher.close()
    assert heights[0] == 720
    lines = heights[-1]
    assert Timed.per_megapixel * lines * lines * 16 / 9 / 1e6 <= 1 / 25
    assert lines == 480  # the first step that leaves time to spare
    assert sum(a != b for a, b in zip(heights, heights[1:], strict=False)) <= 2


def test_the_height_rises_again_when_there_is_time_to_spare() -> None:
    switcher, run = governed(fps=25)
    try:
        low = run(20.0)[-1]
        Timed.per_megapixel = 0.010
        high = run(120.0)[-1]
    finally:
        switcher.close()
    assert low < high == 720
    assert switcher.work_height is None


def test_the_height_does_not_pump() -> None:
    switcher, run = governed(fps=19)  # between two steps: the upper one just too slow
    try:
        heights = run(600.0)
    finally:
        switcher.close()
    changes = sum(a != b for a, b in zip(heights, heights[1:], strict=False))
    assert changes <= 8


def test_the_height_asked_for_is_the_most() -> None:
    switcher, run = governed(fps=25, work_height=360)
    try:
        Timed.per_megapixel = 0.001
        assert set(run(60.0)) == {360}
    finally:
        switcher.close()


def test_a_machine_that_is_far_too_slow_ends_at_the_fewest_lines() -> None:
    switcher, run = governed(fps=30)
    try:
        Timed.per_megapixel = 5.0
        assert run(120.0)[-1] == round(min(STEPS) * 720 / 8) * 8
    finally:
        switcher.close()


def test_split_and_notice_leave_the_pictures_as_they_are() -> None:
    source, styled = np.full((90, 160, 3), 10, np.uint8), np.full((90, 160, 3), 200, np.uint8)
    for split, share in ((0.0, 0.0), (0.25, 0.25), (1.0, 1.0)):
        image = split_view(source, styled, split)
        assert (image[:, :, 0] == 10).mean() == pytest.approx(share, abs=0.02)
    shown = StyledFrame(1, 0.0, source, styled, "m", notice="a source whose name is much longer than the frame is wide is gone")
    assert shown.image.max() > 150 and np.median(shown.image) == 100
    assert (shown.image[:, :3] == 100).all() and (shown.image[:, -3:] == 100).all()
    assert (source == 10).all() and (styled == 200).all()


def test_a_notice_is_drawn_once_and_in_the_middle() -> None:
    """OpenCV 5 drew the outline of its letters beside them."""
    gray = np.full((360, 640, 3), 200, np.uint8)
    image = with_notice(gray, "the source is gone - trying again for 12 s").astype(int)
    panel = np.argwhere((image != 100).any(axis=2))
    letters = np.argwhere((image > 200).all(axis=2))
    assert (image[tuple(panel.min(0))] < 40).all(), "the letters stand on a dark panel"
    for axis, side in ((0, 360), (1, 640)):
        assert abs(letters[:, axis].min() + letters[:, axis].max() - side) < 14
        assert panel[:, axis].min() < letters[:, axis].min() and letters[:, axis].max() < panel[:, axis].max()
    assert (image[panel[:, 0], panel[:, 1]] >= 20).all(), "no black outline"


@pytest.mark.parametrize(
    ("capture_settings", "size"),
    [
        (CaptureSettings(), (640, 480)),
        (CaptureSettings(width=320), (320, 240)),
        (CaptureSettings(height=120), (160, 120)),
        (CaptureSettings(320, 320), (320, 240)),
        (CaptureSettings(1280, 720), (640, 480)),
    ],
)
def test_a_source_is_shrunk_into_the_box_that_was_asked_for(capture_settings: CaptureSettings, size: tuple[int, int]) -> None:
    assert shrink(np.zeros((480, 640, 3), np.uint8), capture_settings).shape[1::-1] == size
