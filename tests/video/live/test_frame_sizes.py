"""A frame that does not fit ends nothing, and neither does a model's file that is deleted or replaced during a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

import cyclecast
from cyclecast.errors import EngineError
from cyclecast.runtime.model_file import read_model_file
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.client import CapturedFrame
from cyclecast.video.live.meter import Meter
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.session import LiveReport, Session
from cyclecast.video.live.sinks.registry import open_sink
from cyclecast.video.live.styling.open_model import BorrowedModel, Opener
from cyclecast.video.live.styling.stream import Stream
from cyclecast.video.live.styling.style_switcher import StyleSwitcher
from cyclecast.video.resize import fit_size, letterbox
from tests.conftest import Negative, Same
from tests.runtime.test_engines import model_file
from tests.video.live.displays import quarters
from tests.video.live.sessions import Collecting

Size = tuple[int, int]  # (width, height)


class SizedFeed:
    """Three frames of each size, a color in each quarter, then the end."""

    name, reconnects, skipped, outage = "sizes", 0, 0, None

    def __init__(self, sizes: Sequence[Size], repeats: int = 3) -> None:
        self._images = [quarters(*size) for size in sizes for _ in range(repeats)]
        self.captured = 0

    def take(self, seconds: float) -> CapturedFrame:
        if self.captured == len(self._images):
            raise EOFError
        self.captured += 1
        time.sleep(0.02)  # so that each sink takes each frame
        return CapturedFrame(self._images[self.captured - 1], time.perf_counter(), self.captured)

    def busy(self, seconds: float) -> None: ...

    def close(self) -> None: ...


def run(sizes: Sequence[Size], opener: Opener, **options: object) -> tuple[LiveReport, list[Image], list[str]]:
    """Runs over frames of these sizes. Returns the report, the styled frames and the messages."""
    sink, messages = Collecting(), list[str]()
    options_ = LiveOptions(**options)  # type: ignore[arg-type]
    report = Session(SizedFeed(sizes), ["m"], opener, ["one"], sink.open, options=options_, on_message=messages.append).run()
    assert report.captured == report.shown + report.skipped == 3 * len(sizes)
    return report, [frame.styled for frame in sink.frames], messages


def is_like_its_source(image: Image) -> bool:
    """Returns whether each quarter has the color that `quarters` gave it, so that nothing is shifted or cut off."""
    height, width = image.shape[:2]
    source = quarters(width, height)
    places = [(y, x) for y in (height // 10, 9 * height // 10) for x in (width // 10, 9 * width // 10)]
    return all(np.abs(image[place].astype(int) - source[place]).max() < 30 for place in places)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_frames_of_any_size_are_scaled_into_a_model_of_a_fixed_size(engine: str, tmp_path: Path) -> None:
    path = model_file(tmp_path / "fixed.onnx", TensorProto.UINT8, [1, 96, 128, 3])
    sizes = [(128, 96), (320, 240), (64, 128), (200, 40), (128, 96), (8, 8)]
    report, images, messages = run(sizes, lambda name: cyclecast.load(path, engine))
    assert [image.shape[1::-1] for image in images[::2]] == sizes and report.shown == 2 * len(sizes)
    assert all(is_like_its_source(image) for image in images if min(image.shape[:2]) > 16)
    assert not [line for line in messages if "skipped" in line]


def test_frames_below_16_pixels_are_skipped_and_the_run_goes_on(tiny_model: Path) -> None:
    sizes = [(64, 48), (8, 8), (64, 12), (32, 32)]
    report, images, messages = run(sizes, lambda name: cyclecast.load(tiny_model, "openvino"))
    assert [image.shape[1::-1] for image in images] == [(64, 48)] * 2 + [(32, 32)] * 2
    assert report.skipped == 2 + 3 + 3
    lines = [line for line in messages if "skipped" in line]
    assert [line.partition(" cannot")[0] for line in lines] == ["frames of 8x8", "frames of 64x12"], "one line for each size"


def test_a_run_may_begin_with_frames_that_are_too_small(tiny_model: Path) -> None:
    _, images, _ = run([(8, 8), (64, 48)], lambda name: cyclecast.load(tiny_model, "openvino"))
    assert [image.shape for image in images] == [(48, 64, 3)] * 2


class Picky(Same):
    """Takes frames of one size alone, without saying so."""

    def prepare(self, width: int, height: int) -> None:
        if (width, height) != (64, 48):
            raise EngineError("not enough memory")


def test_a_size_that_a_model_cannot_take_is_skipped_once_it_has_worked() -> None:
    sizes = [(64, 48), (4096, 4096), (64, 48)]
    report, images, messages = run(sizes, lambda name: BorrowedModel(name, Picky()))
    assert [image.shape for image in images] == [(48, 64, 3)] * 5 and report.skipped == 4
    assert [line for line in messages if "frames of 4096x4096 cannot be shown and are skipped: not enough memory" in line]
    with pytest.raises(EngineError, match="not enough memory"):
        run([(640, 480)], lambda name: BorrowedModel(name, Picky()))


class Plan(Negative):
    """As a plan for a range of sizes."""

    frame_sizes = ((64, 48), (128, 96))

    def __call__(self, frame: Image) -> Image:
        height, width = frame.shape[:2]
        assert 64 <= width <= 128 and 48 <= height <= 96
        return frame


def test_frames_outside_of_a_plan_s_range_are_scaled_into_it() -> None:
    plan = Plan()
    sizes = [(100, 60), (1280, 720), (32, 24), (640, 20), (20, 640)]
    _, images, _ = run(sizes, lambda name: BorrowedModel(name, plan))
    assert [image.shape[1::-1] for image in images[::2]] == sizes
    assert plan.prepared == [(100, 60), (128, 72), (64, 48), (128, 48), (64, 96)]


def test_a_model_of_a_fixed_size_has_no_other_height() -> None:
    with pytest.raises(EngineError, match="the model takes frames of 64x48 to 128x96; it cannot run at height 400"):
        run([(640, 480)], lambda name: BorrowedModel(name, Plan()), work_height=400)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1280, 30), (16, 16), (63, 61)])
def test_an_image_keeps_its_aspect_ratio_in_a_model_s_frame(size: Size) -> None:
    fit = fit_size(size, (256, 256), (256, 256))
    assert fit.frame == (256, 256) and max(fit.scaled) == 256
    assert fit.scaled[0] / fit.scaled[1] == pytest.approx(size[0] / size[1], rel=0.1)
    image = quarters(*size)
    placed = fit.place(image)
    assert placed.shape == (256, 256, 3) and tuple(placed[0, 0]) == tuple(placed[fit.margins[1], fit.margins[0]])
    assert np.abs(fit.cut_out(placed, size).astype(int) - image).mean() < 12
    assert fit_size(size, (16, 16), (2000, 2000)).frame == size


def test_a_recording_keeps_the_aspect_ratio_of_frames_of_another_size(tmp_path: Path) -> None:
    path = tmp_path / "show.mp4"
    feed = SizedFeed([(128, 96), (48, 96)])
    Session(feed, ["m"], lambda name: BorrowedModel(name, Same()), [str(path)], open_sink).run()
    with VideoFile(path) as video:
        frames = [frame.image for frame in video]
    expected = letterbox(quarters(48, 96), (128, 96))
    assert not expected[:, :30].any() and np.abs(frames[-1].astype(int) - expected).mean() < 10


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "torch"])
@pytest.mark.parametrize("change", ["delete", "replace", "tear"])
def test_a_model_s_file_that_changes_during_a_run_changes_nothing(
    engine: str, change: str, tiny_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny_model.read_bytes())
    file = read_model_file(path)
    switcher = StyleSwitcher(["m"], lambda name: cyclecast.load(file, engine, "cpu"))
    stream = Stream(SizedFeed([(64, 48), (96, 64), (48, 32)], repeats=2), switcher, Meter())
    try:
        first = [stream.next() for _ in range(2)][1]
        if change == "delete":
            path.unlink()
        elif change == "replace":
            model_file(path, TensorProto.UINT8, [1, "h", "w", 3])
        else:
            path.write_bytes(file.content[:1000])
        later = [frame for frame in (stream.next() for _ in range(4)) if frame is not None]
        again = cyclecast.load(file, engine, "cpu")  # as a switch back to it does
    finally:
        stream.close()
    assert first is not None and [frame.styled.shape for frame in later] == [(64, 96, 3), (32, 48, 3)]
    with again, cyclecast.load(tiny_model, engine, "cpu") as original:
        for frame in (first, *later):
            assert np.array_equal(frame.styled, original(frame.source)) and np.array_equal(frame.styled, again(frame.source))


def test_a_run_switches_to_a_model_whose_file_is_gone(tiny_model: Path, tmp_path: Path) -> None:
    from cyclecast.cli.live_inputs import open_models

    paths = [tmp_path / "one.onnx", tmp_path / "other.onnx"]
    for path in paths:
        path.write_bytes(tiny_model.read_bytes())
    opener, _ = open_models([str(path) for path in paths], "openvino", "cpu", "auto")
    sink = Collecting(until=lambda frames: frames[-1].model == str(paths[1]))
    session = Session("pattern://160x96@30", list(map(str, paths)), opener, ["one"], sink.open)
    for path in paths:
        path.unlink()
    session.switcher.request_model(str(paths[1]))
    session.run()
    assert sink.frames[-1].model == str(paths[1])
