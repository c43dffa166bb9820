"""The temporal filter reduces flicker and leaves everything else unchanged."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import pytest

import cyclecast
from cyclecast.training.evaluate.flicker import warping_error
from cyclecast.video.frame import Image
from cyclecast.video.live.styling.temporal_filter import TemporalFilter
from cyclecast.video.scene import Scene

NOISE_LEVELS = 3.0  # standard deviation in gray levels, as of a camera indoors


def add_noise(images: Iterable[Image], seed: int = 0) -> list[Image]:
    random = np.random.default_rng(seed)
    return [(image + random.normal(0, NOISE_LEVELS, image.shape) + 0.5).clip(0, 255).astype(np.uint8) for image in images]


def filter_frames(sources: list[Image], styled: list[Image], strength: float = 1.0) -> list[Image]:
    return list(map(TemporalFilter(strength), sources, styled))


def difference(image: Image, other: Image) -> Image:
    """Computes the absolute difference in levels."""
    return np.asarray(cv2.absdiff(image, other), np.uint8)


@pytest.fixture(scope="module")
def scene() -> list[Image]:
    """Frames of the demo's landscape."""
    lake = Scene(width=320, height=180, rate=25)
    return [lake.draw(index / 25) for index in range(16)]


@pytest.fixture(scope="module")
def footage(scene: list[Image]) -> tuple[list[Image], list[Image]]:
    """Returns the landscape with camera noise, and the output of `pencil` for it."""
    sources = add_noise(scene)
    with cyclecast.load("pencil") as model:
        return sources, list(map(model, sources))


def test_flicker_of_noisy_footage_falls_with_strength(footage: tuple[list[Image], list[Image]]) -> None:
    sources, styled = footage
    none, half, full = (
        warping_error(sources[4:], frames[4:]).mean
        for frames in (styled, filter_frames(sources, styled, 0.5), filter_frames(sources, styled, 1.0))
    )
    assert full < 0.6 * none and full < half < 0.85 * none


def test_flicker_is_reduced_while_the_camera_moves() -> None:
    """The camera pans by 4 pixels a frame; the styled frames have new low-frequency noise each."""
    wide, random = Scene(width=400, height=180).draw(0), np.random.default_rng(0)
    sources = [np.ascontiguousarray(wide[:, 4 * index : 4 * index + 320]) for index in range(16)]
    noises = [cv2.GaussianBlur(random.normal(0, 60, source.shape), (0, 0), 3) for source in sources]
    styled = [(255.0 - source + noise).clip(0, 255).astype(np.uint8) for source, noise in zip(sources, noises, strict=True)]
    none, full = (warping_error(sources[4:], frames[4:]).mean for frames in (styled, filter_frames(sources, styled)))
    assert full < 0.5 * none


def test_a_changed_color_leaves_no_ghost(scene: list[Image]) -> None:
    """The source does not change, but the styled color does."""
    dark, bright = np.full_like(scene[0], 40), np.full_like(scene[0], 200)
    np.testing.assert_array_equal(filter_frames([scene[0]] * 3, [dark, dark, bright])[-1], bright)


def test_fine_strokes_stay_sharp(footage: tuple[list[Image], list[Image]]) -> None:
    sources, styled = footage
    after, before = (
        float(np.abs(cv2.Laplacian(frames[-1], cv2.CV_32F)).mean()) for frames in (filter_frames(sources, styled), styled)
    )
    assert after > 0.9 * before


@pytest.mark.parametrize("step", [1, 3, 12], ids=["slow", "fast", "faster than it is wide"])
@pytest.mark.parametrize("color", [(20, 20, 230), (10, 10, 10), (250, 250, 250)], ids=["red", "black", "white"])
def test_a_moving_edge_keeps_its_position_and_leaves_no_trail(scene: list[Image], step: int, color: tuple[int, ...]) -> None:
    """A pole crosses the image; its red is as bright as the hills behind it."""
    sources = [scene[0].copy() for _ in range(20)]
    for index, source in enumerate(sources):
        source[30:150, 20 + step * index : 30 + step * index] = color
    styled = [255 - source for source in sources]
    out = filter_frames(sources, styled)
    for index in range(3, 20):
        x = 20 + step * index
        wrong = difference(out[index], styled[index])[40:140]
        assert wrong[:, x - 3 : x + 13].max() <= 24  # the contrast of the pole is above 100
        assert wrong[:, 20 : max(21, x - 3)].mean((0, 2)).max() <= 4


def test_the_first_frame_after_a_cut_is_unchanged(footage: tuple[list[Image], list[Image]]) -> None:
    sources, styled = footage
    after_cut = [source[:, ::-1].copy() for source in add_noise([sources[0][::-1]] * 3)]
    styled_after = [255 - source for source in after_cut]
    out = filter_frames(sources + after_cut, styled + styled_after)
    np.testing.assert_array_equal(out[len(sources)], styled_after[0])
    assert not np.array_equal(out[-1], styled_after[-1])  # the filter continues after the cut


def test_a_still_scene_converges_to_its_mean(scene: list[Image]) -> None:
    still = scene[0]
    styled = add_noise([np.asarray(255 - still // 2 - 10, np.uint8)] * 60)
    temporal_filter = TemporalFilter(1.0)
    out = [temporal_filter(still, frame) for frame in styled]
    assert abs(np.stack(out[20:]).mean() - np.stack(styled).mean()) < 0.05
    for _ in range(40):
        last = temporal_filter(still, styled[0])
    np.testing.assert_array_equal(last, styled[0])


def test_a_slow_change_of_light_is_followed_closely() -> None:
    """The output lags by at most 3 levels and reaches the final level after the change."""
    gray = [np.full((90, 160, 3), 40 + index // 2, np.uint8) for index in range(200)]
    out = filter_frames(gray, gray)
    assert max(difference(image, other).max() for image, other in zip(out, gray, strict=True)) <= 3
    temporal_filter = TemporalFilter(1.0)
    for frame in [*gray, *[gray[-1]] * 30]:
        last = temporal_filter(frame, frame)
    np.testing.assert_array_equal(last, gray[-1])


@pytest.mark.parametrize("size", [(101, 75), (319, 179), (16, 16), (640, 18), (1, 1)], ids=str)
def test_every_size_is_filtered(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    base = np.asarray(cv2.resize(random.integers(0, 256, (5, 5, 3), np.uint8), size, interpolation=cv2.INTER_CUBIC), np.uint8)
    sources = add_noise([base] * 8)
    styled = [255 - source for source in sources]
    out = filter_frames(sources, styled)
    assert all(frame.shape == base.shape and frame.dtype == np.uint8 for frame in out)
    if min(size) > 1:
        flicker = [float(difference(frames[-1], frames[-2]).mean()) for frames in (out, styled)]
        assert flicker[0] < 0.95 * flicker[1]


def test_the_inputs_are_not_modified(footage: tuple[list[Image], list[Image]]) -> None:
    sources, styled = footage
    copies = [frame.copy() for frame in sources[:3] + styled[:3]]
    filter_frames(sources[:3], styled[:3])
    for frame, copy in zip(sources[:3] + styled[:3], copies, strict=True):
        np.testing.assert_array_equal(frame, copy)


def test_a_returned_frame_is_not_modified_later(footage: tuple[list[Image], list[Image]]) -> None:
    sources, styled = footage
    temporal_filter = TemporalFilter(1.0)
    temporal_filter(sources[0], styled[0])
    result = temporal_filter(sources[1], styled[1])
    copy = result.copy()
    temporal_filter(sources[2], styled[2])
    np.testing.assert_array_equal(result, copy)


def test_the_first_frame_is_unchanged_also_after_a_reset_and_at_another_size(footage: tuple[list[Image], list[Image]]) -> None:
    sources, styled = footage
    temporal_filter = TemporalFilter(1.0)
    np.testing.assert_array_equal(temporal_filter(sources[0], styled[0]), styled[0])
    assert not np.array_equal(temporal_filter(sources[1], styled[1]), styled[1])
    temporal_filter.reset()
    np.testing.assert_array_equal(temporal_filter(sources[2], styled[2]), styled[2])
    assert not np.array_equal(temporal_filter(sources[3], styled[3]), styled[3])
    smaller = [np.ascontiguousarray(frame[:90, :160]) for frame in (sources[4], styled[4])]
    np.testing.assert_array_equal(temporal_filter(*smaller), smaller[1])
