"""The strength: how much of the styled frame is in the output, the rest being the source."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

import cyclecast
from cyclecast.errors import ConfigError
from cyclecast.future import Deferred
from cyclecast.video.frame import Image
from cyclecast.video.resize import style_frame
from cyclecast.video.strength import blend_with_source
from tests.conftest import Negative, Same, moving_frames

SOURCE = moving_frames(1, 64, 48)[0]


class Submitting(Negative):
    """A negative that finishes a frame when its output is taken, as a GPU does."""

    def submit(self, frame: Image) -> Deferred[Image]:
        return Deferred(lambda: self(frame))


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.5, 0.75, 0.99])
def test_the_output_lies_between_the_source_and_the_styled_frame(strength: float) -> None:
    styled = 255 - SOURCE
    blended = blend_with_source(SOURCE, styled, strength)
    expected = SOURCE + strength * (styled.astype(float) - SOURCE)
    assert np.abs(blended - expected).max() <= 0.5 + 1e-6
    assert blended.dtype == np.uint8 and not np.may_share_memory(blended, SOURCE)
    assert np.array_equal(styled, 255 - SOURCE), "the styled frame is unchanged"


def test_at_1_nothing_is_computed_and_at_0_the_source_is_exact() -> None:
    styled = 255 - SOURCE
    assert blend_with_source(SOURCE, styled, 1.0) is styled
    assert np.array_equal(blend_with_source(SOURCE, styled, 0), SOURCE)


@pytest.mark.parametrize("function", [Negative(), Submitting()], ids=["at once", "submitted"])
@pytest.mark.parametrize("work_height", [None, 24])
def test_the_source_is_blended_at_its_own_size(function: Negative, work_height: int | None) -> None:
    styled = style_frame(SOURCE, function, work_height)
    assert np.array_equal(style_frame(SOURCE, function, work_height, 0.0), SOURCE)
    assert np.array_equal(style_frame(SOURCE, function, work_height, 0.5), blend_with_source(SOURCE, styled, 0.5))


def test_detail_that_the_work_height_loses_comes_back() -> None:
    lines = np.zeros((48, 64, 3), np.uint8)
    lines[::2] = 255  # half the height averages them to gray

    def contrast(strength: float) -> float:
        return float(np.ptp(style_frame(lines, Same(), 24, strength).mean((1, 2))))

    assert contrast(1.0) < 10 and contrast(0.6) > 95


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan, math.inf])
@pytest.mark.parametrize("options", [cyclecast.ConvertOptions, cyclecast.LiveOptions])
def test_a_strength_outside_of_0_to_1_is_an_error(options: type, strength: float) -> None:
    with pytest.raises(ConfigError, match=rf"^strength must be from 0 .* to 1 .*, got {strength:g}$"):
        options(strength=strength)


def test_the_public_stream_has_a_strength() -> None:
    with cyclecast.load("monet") as model:
        options = cyclecast.LiveOptions(strength=0.5)
        frame = next(cyclecast.stream("pattern://160x96@30", model, options=options))
        assert np.array_equal(frame.image, cv2.addWeighted(frame.source, 0.5, model(frame.source), 0.5, 0))
