"""Images of many sizes are padded to a few before the model runs."""

from __future__ import annotations

import numpy as np

from cyclecast.video.convert.size_buckets import SizeBuckets
from cyclecast.video.frame import Image
from tests.conftest import Negative, moving_frames
from tests.video.clips import mean_difference

IMAGE = moving_frames(1, 40, 28)[0]


class Recording(Negative):
    """A negative that keeps its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Image] = []

    def __call__(self, frame: Image) -> Image:
        self.frames.append(frame)
        return super().__call__(frame)


def test_images_of_near_sizes_are_padded_to_the_same_size() -> None:
    function = Recording()
    buckets = SizeBuckets(function, 64)
    for width, height in ((640, 480), (600, 449), (577, 512), (1, 1), (64, 3)):
        image = moving_frames(1, width, height)[0]
        assert mean_difference(buckets(image), 255 - image) == 0
    assert [frame.shape[1::-1] for frame in function.frames] == [(640, 512)] * 3 + [(64, 64)] * 2
    buckets.prepare(600, 449)
    assert function.prepared == [buckets.size(600, 449)] == [(640, 512)]
    assert buckets.identity == "negative grid 64" != SizeBuckets(function).identity


def test_padding_repeats_the_last_column_and_row() -> None:
    function = Recording()
    SizeBuckets(function, 32)(IMAGE)
    (frame,) = function.frames
    assert (frame[:28, 40:] == IMAGE[:, -1:]).all() and (frame[28:, :40] == IMAGE[-1:]).all()


def test_padding_changes_the_output_of_a_model_only_near_the_padded_edges() -> None:
    import cyclecast

    image = moving_frames(1, 150, 130)[0]
    with cyclecast.load("monet", engine="openvino", precision="fp32") as model:
        plain, padded = model(image), SizeBuckets(model)(image)
    assert padded.shape == image.shape and padded.flags.c_contiguous
    assert np.abs(plain.astype(int) - padded)[:-64, :-64].max() <= 1
    assert mean_difference(plain, padded) < 2
