"""The steady picture: flicker goes, and nothing else does."""

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

NOISE = 3.0  # gray levels, deviation: a camera in a room


def noisy(images: Iterable[Image], seed: int = 0) -> list[Image]:
    random = np.random.default_rng(seed)
    return [(image + random.normal(0, NOISE, image.shape) + 0.5).clip(0, 255).astype(np.uint8) for image in images]


def steadied(sources: list[Image], styled: list[Image], strength: float = 1.0) -> list[Image]:
    steady = TemporalFilter(strength)
    return list(map(steady, sources, styled))


def off(one: Image, other: Image) -> Image:
    """Levels between two pictures, at each value."""
    return np.asarray(cv2.absdiff(one, other), np.uint8)


@pytest.fixture(scope="module")
def scene() -> list[Image]:
    """A lake, going by."""
    drawn = Scene(width=320, height=180, rate=25)
    return [drawn.draw(index / 25) for index in range(16)]


@pytest.fixture(scope="module")
def footage(scene: list[Image]) -> tuple[list[Image], list[Image]]:
    """The lake before a noisy camera, and what `winter` makes of it."""
    sources = noisy(scene)
    with cyclecast.load("winter") as model:
        return sources, list(map(model, sources))


def test_noisy_footage_flickers_less_and_firmer_is_steadier(footage: tuple[list[Image], list[Image]]) -> None:
    sources, styled = footage
    none, half, full = (
        warping_error(sources[4:], pictures[4:]).mean
        for pictures in (styled, steadied(sources, styled, 0.5), steadied(sources, styled, 1.0))
    )
    assert full < 0.6 * none and full < half < 0.85 * none


def test_where_the_camera_moves_flicker_goes_too() -> None:
    """The camera turns by 4 pixels a frame, while each picture is mottled anew."""
    wide, random = Scene(width=400, height=180).draw(0), np.random.default_rng(0)
    sources = [np.ascontiguousarray(wide[:, 4 * index : 4 * index + 320]) for index in range(16)]
    mottles = [cv2.GaussianBlur(random.normal(0, 60, source.shape), (0, 0), 3) for source in sources]
    styled = [(255.0 - source + mottle).clip(0, 255).astype(np.uint8) for source, mottle in zip(sources, mottles, strict=True)]
    none, full = (warping_error(sources[4:], pictures[4:]).mean for pictures in (styled, steadied(sources, styled)))
    assert full < 0.5 * none


def test_colors_that_a_place_no_longer_has_are_let_go(scene: list[Image]) -> None:
    """The source stands still and the model makes something else of it all the same: no ghost of what it made before."""
    dark, bright = np.full_like(scene[0], 40), np.full_like(scene[0], 200)
    np.testing.assert_array_equal(steadied([scene[0]] * 3, [dark, dark, bright])[-1], bright)


def test_strokes_stay_sharp(footage: tuple[list[Image], list[Image]]) -> None:
    sources, styled = footage
    after, before = (
        float(np.abs(cv2.Laplacian(pictures[-1], cv2.CV_32F)).mean()) for pictures in (steadied(sources, styled), styled)
    )
    assert after > 0.9 * before


@pytest.mark.parametrize("step", [1, 3, 12], ids=["slow", "brisk", "faster than it is wide"])
@pytest.mark.parametrize("color", [(20, 20, 230), (10, 10, 10), (250, 250, 250)], ids=["red", "black", "white"])
def test_a_moving_edge_keeps_its_place_and_leaves_no_trail(scene: list[Image], step: int, color: tuple[int, ...]) -> None:
    """A pole goes through the picture; its red is as bright as the hills behind it."""
    sources = [scene[0].copy() for _ in range(20)]
    for index, source in enumerate(sources):
        source[30:150, 20 + step * index : 30 + step * index] = color
    styled = [255 - source for source in sources]
    out = steadied(sources, styled)
    for index in range(3, 20):
        at = 20 + step * index
        wrong = off(out[index], styled[index])[40:140]
        assert wrong[:, at - 3 : at + 13].max() <= 24  # of more than 100 between the pole and what is behind it
        assert wrong[:, 20 : max(21, at - 3)].mean((0, 2)).max() <= 4


def test_a_cut_comes_through_at_once(footage: tuple[list[Image], list[Image]]) -> None:
    sources, styled = footage
    there = [source[:, ::-1].copy() for source in noisy([sources[0][::-1]] * 3)]
    made = [255 - source for source in there]
    out = steadied(sources + there, styled + made)
    np.testing.assert_array_equal(out[len(sources)], made[0])
    assert not np.array_equal(out[-1], made[-1])  # and it goes on from there


def test_a_still_picture_settles_at_its_mean_and_comes_to_rest(scene: list[Image]) -> None:
    still = scene[0]
    styled = noisy([np.asarray(255 - still // 2 - 10, np.uint8)] * 60)
    steady = TemporalFilter(1.0)
    out = [steady(still, picture) for picture in styled]
    late, made = np.stack(out[20:]), np.stack(styled)
    assert abs(late.mean() - made.mean()) < 0.05
    for _ in range(40):
        rest = steady(still, styled[0])
    np.testing.assert_array_equal(rest, styled[0])


def test_a_slow_change_of_light_is_followed() -> None:
    """No level is held back for long: the picture is at most a few behind, and there when it ends."""
    gray = [np.full((90, 160, 3), 40 + index // 2, np.uint8) for index in range(200)]
    out = steadied(gray, gray)
    assert max(off(one, other).max() for one, other in zip(out, gray, strict=True)) <= 3
    steady = TemporalFilter(1.0)
    for picture in [*gray, *[gray[-1]] * 30]:
        last = steady(picture, picture)
    np.testing.assert_array_equal(last, gray[-1])


@pytest.mark.parametrize("size", [(101, 75), (319, 179), (16, 16), (640, 18), (1, 1)], ids=str)
def test_any_size_goes(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    base = np.asarray(cv2.resize(random.integers(0, 256, (5, 5, 3), np.uint8), size, interpolation=cv2.INTER_CUBIC), np.uint8)
    sources = noisy([base] * 8)
    styled = [255 - source for source in sources]
    out = steadied(sources, styled)
    assert all(picture.shape == base.shape and picture.dtype == np.uint8 for picture in out)
    if min(size) > 1:
        flicker = [float(off(pictures[-1], pictures[-2]).mean()) for pictures in (out, styled)]
        assert flicker[0] < 0.95 * flicker[1]


def test_neither_input_is_changed(footage: tuple[list[Image], list[Image]]) -> None:
    sources, styled = footage
    kept = [picture.copy() for picture in sources[:3] + styled[:3]]
    steadied(sources[:3], styled[:3])
    for picture, copy in zip(sources[:3] + styled[:3], kept, strict=True):
        np.testing.assert_array_equal(picture, copy)


def test_what_it_gave_is_not_changed_later(footage: tuple[list[Image], list[Image]]) -> None:
    sources, styled = footage
    steady = TemporalFilter(1.0)
    steady(sources[0], styled[0])
    given = steady(sources[1], styled[1])
    copy = given.copy()
    steady(sources[2], styled[2])
    np.testing.assert_array_equal(given, copy)


def test_the_first_picture_is_itself_also_after_forgetting_and_at_another_size(footage: tuple[list[Image], list[Image]]) -> None:
    sources, styled = footage
    steady = TemporalFilter(1.0)
    np.testing.assert_array_equal(steady(sources[0], styled[0]), styled[0])
    assert not np.array_equal(steady(sources[1], styled[1]), styled[1])
    steady.reset()
    np.testing.assert_array_equal(steady(sources[2], styled[2]), styled[2])
    assert not np.array_equal(steady(sources[3], styled[3]), styled[3])
    smaller = [np.ascontiguousarray(picture[:90, :160]) for picture in (sources[4], styled[4])]
    np.testing.assert_array_equal(steady(*smaller), smaller[1])
