"""GIF, AVIF and HEIC: read where Pillow can, otherwise counted and named in one line, with what to install."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from cyclecast import image_formats
from cyclecast.errors import InputError
from cyclecast.image_formats import FORMATS
from cyclecast.training.data import list_images
from cyclecast.training.data import read_image as read_training_image
from cyclecast.video.convert.plan import plan_conversions
from cyclecast.video.files.image_encoding import SETTINGS
from cyclecast.video.files.images import read_still
from tests.commands import json_of, run_command

RED, BLUE = (200, 30, 30), (30, 30, 200)
needs_avif = pytest.mark.skipif("avif" not in features.get_supported_modules(), reason="needs a Pillow that reads AVIF")


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Removes the plugin for HEIC."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    image_formats.has_decoder.cache_clear()
    yield
    image_formats.has_decoder.cache_clear()


def upright_red_over_blue(width: int = 48, height: int = 64) -> Image.Image:
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width, height // 2))
    return image


def write_gif(path: Path) -> Path:
    """Writes a GIF of a red frame and a blue one."""
    red, blue = (Image.new("RGB", (64, 48), color) for color in (RED, BLUE))
    red.save(path, save_all=True, append_images=[blue], duration=100)
    return path


def write_lying_avif(path: Path) -> Path:
    """Writes an AVIF file that is red over blue once it is rotated as its EXIF orientation requires."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    upright_red_over_blue().transpose(Image.Transpose.ROTATE_90).save(path, exif=exif.tobytes(), quality=90)
    return path


def is_red_over_blue(rgb: NDArray[np.uint8]) -> bool:
    halves = np.array_split(rgb.astype(float), 2)
    means = [half[2:-2].mean((0, 1)) for half in halves]
    return rgb.shape == (64, 48, 3) and all(
        np.abs(mean - color).max() < 12 for mean, color in zip(means, (RED, BLUE), strict=True)
    )


def test_every_format_that_is_written_has_settings() -> None:
    assert set(FORMATS.values()) == set(SETTINGS)


def test_training_reads_the_first_frame_of_a_gif(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "a.GIF")
    assert list_images(tmp_path) == [path]
    image = read_training_image(path)
    assert image is not None and image.shape == (48, 64, 3) and np.abs(image.reshape(-1, 3).mean(0) - RED).max() < 6


@needs_avif
def test_avif_is_read_upright_in_training_and_in_convert(tmp_path: Path) -> None:
    path = write_lying_avif(tmp_path / "a.avif")
    assert list_images(tmp_path) == [path]
    image = read_training_image(path)
    assert image is not None and is_red_over_blue(image)
    still = read_still(path)
    assert is_red_over_blue(np.asarray(still.image[..., ::-1])) and still.alpha is None
    exif = Image.Exif()
    exif.load(still.exif or b"")
    assert exif[0x0112] == 1  # so that nobody turns the output again
    assert plan_conversions([tmp_path], tmp_path / "out") == [(path, tmp_path / "out" / "a.jpg")]


def test_a_damaged_file_is_an_error_or_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(write_gif(tmp_path / "whole.gif").read_bytes()[:40])
    (tmp_path / "b.avif").write_text("no image")
    assert read_training_image(tmp_path / "a.gif") is None and read_training_image(tmp_path / "b.avif") is None
    with pytest.raises(InputError, match=r"b\.avif: cannot be read as an image"):
        read_still(tmp_path / "b.avif")


def test_heic_files_without_the_plugin_are_counted_in_one_line(
    without_heif: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("1.heic", "2.HEIC", "3.heif"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(InputError, match=r"no images in it \(3 HEIC files skipped: pip install 'cyclecast\[heic\]'\)"):
        list_images(tmp_path)
    with pytest.raises(InputError, match=r"no images or videos in this folder \(3 HEIC files skipped: pip install"):
        plan_conversions([tmp_path], tmp_path / "out")
    caplog.clear()
    folder = tmp_path / "sub"
    folder.mkdir()
    upright_red_over_blue().save(folder / "4.png")
    (folder / "5.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert list_images(folder) == [folder / "4.png"]
        assert plan_conversions([folder], tmp_path / "out") == [(folder / "4.png", tmp_path / "out" / "4.png")]
    assert [record.getMessage() for record in caplog.records] == [f"{folder}: 1 HEIC file skipped: pip install 'cyclecast[heic]'"]


def test_convert_prints_how_many_heic_files_are_skipped(without_heif: None, tiny_model: Path, tmp_path: Path) -> None:
    upright_red_over_blue().save(tmp_path / "1.png")
    (tmp_path / "2.heic").write_bytes(b"\0\0\0\x18ftypheic")
    done = run_command("convert", tmp_path, tmp_path / "out", "-m", tiny_model)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}: 1 HEIC file skipped: pip install 'cyclecast[heic]'" in done.stderr.splitlines()


def test_a_named_heic_file_without_the_plugin_is_an_error_with_the_command_to_type(
    without_heif: None, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    done = run_command("convert", tmp_path / "a.heic", tmp_path / "a.jpg", "-m", tiny_model)
    assert done.returncode == 1 and not (tmp_path / "a.jpg").exists()
    assert done.stderr.splitlines()[-1].endswith("HEIC needs a plugin: pip install 'cyclecast[heic]'")


def test_the_plugin_is_registered_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = []
    plugin = ModuleType("pillow_heif")
    plugin.register_heif_opener = lambda: registered.append(True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    image_formats.has_decoder.cache_clear()
    try:
        assert image_formats.is_readable(Path("a.HEIC")) and image_formats.is_readable(Path("b.heif"))
    finally:
        image_formats.has_decoder.cache_clear()
    assert registered == [True]


def write_heic(path: Path) -> Path:
    """Writes a HEIC file, as phones do."""
    pytest.importorskip("pillow_heif", reason="pillow-heif is not installed").register_heif_opener()
    upright_red_over_blue().save(path, format="HEIF", quality=95)
    return path


def test_heic_is_read_with_the_plugin(tmp_path: Path) -> None:
    path = write_heic(tmp_path / "a.heic")
    image = read_training_image(path)
    assert image is not None and is_red_over_blue(image)
    assert is_red_over_blue(np.asarray(read_still(path).image[..., ::-1]))
    path.write_bytes(path.read_bytes()[:-200])
    assert read_training_image(path) is None
    with pytest.raises(InputError, match=r"a\.heic: cannot be read as an image"):
        read_still(path)


@needs_avif
def test_folders_of_heic_and_avif_are_trained_on_and_converted(tiny_model: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder, names in zip(folders, (("1.heic", "2.HEIF", "3.hif"), ("4.avif",)), strict=True):
        folder.mkdir()
        for name in names:
            (write_lying_avif if name.endswith("avif") else write_heic)(folder / name)
    settings = ("generator=frame", "preset=nano", "ndf=4", "load_size=40", "crop_size=32", "batch_size=1", "tensorboard=false")
    common = ("--domain-a", folders[0], "--domain-b", folders[1], "--out", tmp_path / "run", "--steps", 1, "--device", "cpu")
    assert json_of("train", "cyclegan", *common, *(f"--set={each}" for each in settings))["steps"] == 1
    done = run_command("convert", *folders, tmp_path / "out", "-m", tiny_model, "--strength", 0)
    assert done.returncode == 0 and "skipped" not in done.stderr, done.stderr
    written = sorted((tmp_path / "out").rglob("*.jpg"))
    assert [path.name for path in written] == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert all(is_red_over_blue(np.asarray(Image.open(path).convert("RGB"))) for path in written)


def test_convert_makes_an_image_of_a_gifs_first_frame_and_a_video_of_all(tiny_model: Path, tmp_path: Path) -> None:
    path = write_gif(tmp_path / "a.gif")
    assert json_of("convert", path, tmp_path / "a.png", "-m", tiny_model, "--strength", 0)["frames"] == 1
    assert np.abs(np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).reshape(-1, 3).mean(0) - RED).max() < 6
    assert json_of("convert", path, tmp_path / "b.gif", "-m", tiny_model)["frames"] == 2
