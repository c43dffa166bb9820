"""Conversions at a strength below 1: videos, images with transparency, batches, interrupted runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.killed import content
from cyclecast.errors import Interrupted
from cyclecast.video.convert.batch import convert_batch
from cyclecast.video.convert.batch_log import BatchLog
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.convert.signature import conversion_signature
from cyclecast.video.files.images import write_image
from cyclecast.video.frame import Image
from cyclecast.video.strength import blend_with_source
from tests.commands import run_command
from tests.conftest import Negative, moving_frames
from tests.video.clips import psnr, read_frames

HALF = ConvertOptions(strength=0.5, preset="ultrafast")


@pytest.mark.parametrize("work_height", [None, 24])
def test_a_video_is_blended_frame_by_frame(clip: Path, tmp_path: Path, work_height: int | None) -> None:
    options = ConvertOptions(crf=1, strength=0.25, work_height=work_height)
    report = convert_file(clip, tmp_path / "out.mp4", Negative(), options)
    sources = read_frames(clip)
    expected = [blend_with_source(image, 255 - image, 0.25) for image in sources]
    assert report.frames == len(sources) == 12
    assert psnr(read_frames(tmp_path / "out.mp4"), expected) > (38 if work_height is None else 25)


def test_an_image_keeps_its_transparency(tmp_path: Path) -> None:
    image = moving_frames(1, 40, 30)[0]
    alpha = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))
    cv2.imwrite(str(tmp_path / "in.png"), np.dstack([image, alpha]))
    convert_file(tmp_path / "in.png", tmp_path / "out.png", Negative(), ConvertOptions(strength=0.3))
    written = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
    assert written is not None and np.array_equal(written[..., 3], alpha)
    visible = alpha > 0  # the other colors are replaced
    assert np.array_equal(written[visible][:, :3], blend_with_source(image, 255 - image, 0.3)[visible])


def test_every_file_of_a_batch_is_blended_and_another_strength_converts_it_again(clip: Path, tmp_path: Path) -> None:
    """Five images, so that they are padded for the model: the blend has the images' own sizes."""
    images = {tmp_path / f"{n}.png": moving_frames(1, 40 + n, 30 + n)[0] for n in range(5)}
    for path, image in images.items():
        write_image(path, image)
    out = tmp_path / "out"
    planned = [(path, out / path.name) for path in images] + [(clip, out / "clip.mp4")]
    out.mkdir()

    def convert(options: ConvertOptions) -> int:
        outcomes = list(convert_batch(planned, Negative(), options, BatchLog(out)))
        assert not [outcome.error for outcome in outcomes if outcome.error]
        return sum(outcome.report is not None for outcome in outcomes)

    assert convert(HALF) == 6
    for path, image in images.items():
        written = cv2.imread(str(out / path.name))
        assert written is not None and np.array_equal(written, blend_with_source(image, 255 - image, 0.5))
    assert psnr(read_frames(out / "clip.mp4"), [blend_with_source(one, 255 - one, 0.5) for one in read_frames(clip)]) > 30
    assert convert(HALF) == 0, "an earlier run has converted them"
    assert convert(dataclasses.replace(HALF, strength=0.4, overwrite=True)) == 6


class Interrupting(Negative):
    """A negative that Ctrl-C ends at its 43rd frame."""

    count = 0

    def __call__(self, frame: Image) -> Image:
        self.count += 1
        if self.count == 43:
            raise KeyboardInterrupt
        return super().__call__(frame)


def test_an_interrupted_run_resumes_with_the_same_strength_only(
    long_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cyclecast.video.convert.parts.PART_FRAMES", 30)
    half = dataclasses.replace(HALF, duration=ConvertOptions().start + 2)
    convert_file(long_clip, tmp_path / "whole.mp4", Negative(), half)
    for strength, resumed in ((0.5, 30), (0.6, 0), (1.0, 0)):
        out, messages = tmp_path / f"{strength}.mp4", list[str]()
        with pytest.raises(Interrupted):
            convert_file(long_clip, out, Interrupting(), half)
        report = convert_file(long_clip, out, Negative(), dataclasses.replace(half, strength=strength), None, messages.append)
        assert (report.frames, report.resumed_frames) == (50, resumed)
        if not resumed:
            assert messages[0] == f"{strength}.mp4: starting over: changed since the interrupted run: options"
    assert content(tmp_path / "0.5.mp4") == content(tmp_path / "whole.mp4")
    assert content(tmp_path / "0.6.mp4") != content(tmp_path / "whole.mp4")


def test_strength_1_has_the_signature_of_runs_from_before_the_option(clip: Path) -> None:
    options = [ConvertOptions(strength=strength) for strength in (1, 1.0, 0.5)]
    one, same, half = (conversion_signature(clip, Negative(), each)["options"] for each in options)
    assert one == same and "strength" not in one
    assert half == one | {"strength": "0.5"}


def test_the_command(tiny_model: Path, tmp_path: Path) -> None:
    image = moving_frames(1, 64, 48)[0]
    write_image(tmp_path / "in.png", image)

    def convert(strength: object) -> Image:
        out = tmp_path / f"{strength}.png"
        done = run_command("convert", tmp_path / "in.png", out, "-m", tiny_model, "--strength", strength)
        assert done.returncode == 0, done.stderr
        return np.asarray(cv2.imread(str(out)), np.uint8)

    assert np.array_equal(convert(0), image)
    styled = convert(1)
    assert not np.array_equal(styled, image)
    assert np.array_equal(convert(0.5), blend_with_source(image, styled, 0.5))
    for strength in (1.5, "nan"):
        done = run_command("convert", tmp_path / "in.png", tmp_path / "no.png", "-m", tiny_model, "--strength", strength)
        assert done.returncode == 2 and "--strength" in done.stderr
        assert not (tmp_path / "no.png").exists()


def test_the_demo(tiny_model: Path, tmp_path: Path) -> None:
    done = run_command("demo", "--out", tmp_path, "-m", tiny_model, "--seconds", 0.2, "--strength", 0)
    assert done.returncode == 0, done.stderr
    assert "strength 0" in done.stdout
    before_after = cv2.imread(str(tmp_path / "before-after.jpg"))
    assert before_after is not None
    left, right = before_after[:, :960], before_after[:, 960:]
    assert np.abs(left.astype(int) - right).mean() < 2
