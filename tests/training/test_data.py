"""Folders of images, good and bad, alone and in pairs; batches that any process can draw its share of."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclecast.errors import ConfigError, InputError
from cyclecast.training.data import ImageFolder, OneDomain, PairedData, UnpairedData, fixed_set, open_domain, to_bytes
from cyclecast.training.data.images import resize, resize_short_side, to_tensor
from tests.commands import run_command
from tests.conftest import shared


def unpaired(domains: Path) -> UnpairedData:
    return UnpairedData(ImageFolder(domains / "trainA", (40, 60), 32), ImageFolder(domains / "trainB", (40, 60), 32))


def gradient(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Draws (height, width, 3): red grows to the right, green downwards, so that each pixel shows its position."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 3, y * 4, np.full_like(x, 60)], 2).astype(np.uint8)


def write(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])


def test_a_batch_depends_on_seed_and_step_alone(domains: Path) -> None:
    used = unpaired(domains)
    used.batch(1, 0, 3)
    again, fresh = used.batch(1, 5, 3), unpaired(domains).batch(1, 5, 3)
    assert again[0].shape == (3, 3, 32, 32)
    assert torch.equal(again[0], fresh[0]) and torch.equal(again[1], fresh[1])
    assert not torch.equal(again[0], unpaired(domains).batch(1, 6, 3)[0])
    assert not torch.equal(again[0], unpaired(domains).batch(2, 5, 3)[0])
    assert again[0].abs().max() <= 1


def test_the_shares_of_several_processes_are_the_whole_batch(domains: Path) -> None:
    one_folder = ImageFolder(domains / "trainA", (40, 60), 32)
    for data in (unpaired(domains), OneDomain(one_folder), PairedData(domains / "trainA", domains / "trainB", (40, 60), 32)):
        whole = data.batch(3, 7, 4)
        shares = [data.batch(3, 7, 2, first=first) for first in (0, 2)]
        for index, images in enumerate(whole):
            assert torch.equal(images, torch.cat([share[index] for share in shares]))
        assert len({image.numpy().tobytes() for image in whole[0]}) == 4


def test_both_domains_of_the_same_folder_are_drawn_independently(domains: Path) -> None:
    folder = ImageFolder(domains / "trainA", (40, 60), 32)
    real_a, real_b = UnpairedData(folder, folder).batch(1, 1, 4)
    assert not torch.equal(real_a, real_b)


def test_an_unreadable_image_is_skipped_with_one_warning_and_counted(
    domains: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good.png").write_bytes((domains / "trainA" / "0.png").read_bytes())
    (tmp_path / "text.jpg").write_text("no image")
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((8, 8, 3), np.uint8))
    folder = ImageFolder(tmp_path, (40, 40), 32)
    random = np.random.default_rng(0)
    with caplog.at_level(logging.WARNING):
        for _ in range(40):
            folder.draw(random)
    assert {path.name for path in folder.skipped} == {"text.jpg", "tiny.png"}
    assert len(caplog.records) == 2


def test_skipped_images_do_not_change_later_batches(domains: Path, tmp_path: Path) -> None:
    for index in range(4):
        (tmp_path / f"{index}.png").write_bytes((domains / "trainA" / f"{index}.png").read_bytes())
        (tmp_path / f"{index}.jpg").write_text("no image")
    used, fresh = (OneDomain(ImageFolder(tmp_path, (40, 40), 32)) for _ in range(2))
    for step in range(5):
        used.batch(1, step, 4)
    assert torch.equal(used.batch(1, 5, 4)[0], fresh.batch(1, 5, 4)[0])


def test_a_missing_folder_and_one_without_readable_images_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        ImageFolder(tmp_path / "nowhere", (40, 40), 32)
    with pytest.raises(InputError, match="no images in it"):
        ImageFolder(tmp_path, (40, 40), 32)
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(InputError, match="none of its 1 image files can be read"):
        ImageFolder(tmp_path, (40, 40), 32).draw(np.random.default_rng(0))
    with pytest.raises(InputError, match="none of its 1 image files can be read"):
        fixed_set(tmp_path, 3, 32)
    with pytest.raises(ConfigError, match="a rising range from crop_size .64. up, got 40 to 40"):
        ImageFolder(tmp_path, (40, 40), 64)


def test_photos_are_rotated_upright() -> None:
    photos = fixed_set(shared("media/images"), 3, 64)
    assert photos.shape == (3, 3, 64, 64)
    folder = shared("media/images")
    upright = [cv2.imread(str(folder / f"Landscape_{turn}.jpg")) for turn in (1, 3, 6, 8)]
    assert len({image.shape for image in upright if image is not None}) == 1  # EXIF is obeyed: all are wide


def test_a_fixed_set_is_cropped_at_the_center(tmp_path: Path) -> None:
    write(tmp_path / "one.png", gradient(48, 64))
    assert torch.equal(fixed_set(tmp_path, 1, 48)[0], to_tensor(gradient(48, 64)[:, 8:56]))


def test_half_of_a_side_by_side_image_is_one_domain(tmp_path: Path) -> None:
    both = np.concatenate([np.full((40, 40, 3), 50, np.uint8), np.full((40, 40, 3), 200, np.uint8)], 1)
    write(tmp_path / "pair.png", both)
    for half, value in (("left", 50), ("right", 200)):
        folder = open_domain(tmp_path, (40, 50), 32, half="left" if half == "left" else "right")
        assert to_bytes(folder.draw(np.random.default_rng(0))).unique().tolist() == [value]
        assert to_bytes(folder.first(1, 32)).unique().tolist() == [value]


def test_a_half_that_is_too_narrow_is_skipped(tmp_path: Path) -> None:
    write(tmp_path / "narrow.png", gradient(40, 30))
    ImageFolder(tmp_path, (40, 40), 32).draw(np.random.default_rng(0))
    with pytest.raises(InputError, match="none of its 1"):
        ImageFolder(tmp_path, (40, 40), 32, half="right").draw(np.random.default_rng(0))


def test_a_pair_is_resized_cropped_and_flipped_alike(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path / "a" / f"{index}.png", gradient())
        write(tmp_path / "b" / f"{index}.bmp", gradient())
    data = PairedData(tmp_path / "a", tmp_path / "b", (40, 60), 32)
    real_a, real_b = data.batch(0, 0, 16)
    assert torch.equal(real_a, real_b)
    rising = (real_a[:, 0, 0, -1] > real_a[:, 0, 0, 0]).tolist()
    assert True in rising and False in rising  # some are flipped, some are not
    first_a, first_b = data.first(3, 32)
    assert first_a.shape == (3, 3, 32, 32) and torch.equal(first_a, first_b)


def test_pairs_of_slightly_different_sizes_are_aligned(tmp_path: Path) -> None:
    write(tmp_path / "a" / "0.png", gradient(48, 64))
    write(tmp_path / "b" / "0.png", resize(gradient(48, 64), (97, 130)))
    real_a, real_b = PairedData(tmp_path / "a", tmp_path / "b", (48, 48), 40).batch(0, 0, 8)
    assert (real_a - real_b).abs().mean() < 0.02


def test_the_halves_of_one_folder_are_pairs(tmp_path: Path) -> None:
    write(tmp_path / "0.png", np.concatenate([gradient(), 255 - gradient()], 1))
    real_a, real_b = PairedData(tmp_path, tmp_path, (40, 60), 32).batch(0, 0, 4)
    assert (real_a + real_b).abs().max() < 0.02
    turned = PairedData(tmp_path, tmp_path, (40, 60), 32, half_a="right", half_b="left").batch(0, 0, 4)
    assert torch.equal(turned[0], real_b) and torch.equal(turned[1], real_a)
    with pytest.raises(InputError, match="must differ"):
        PairedData(tmp_path, tmp_path, (40, 60), 32, half_a="right")


def test_files_without_a_partner_are_skipped_with_one_warning_for_all_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a/both.png", "a/alone.png", "a/broken.png", "b/both.png", "b/other.png"):
        write(tmp_path / name, gradient())
    (tmp_path / "b" / "broken.png").write_text("no image")
    with caplog.at_level(logging.WARNING):
        data = PairedData(tmp_path / "a", tmp_path / "b", (40, 40), 32)
        data.batch(0, 0, 20)
    assert len(data) == 2
    assert {str(path.relative_to(tmp_path)) for path in data.skipped} == {"a/alone.png", "b/other.png", "b/broken.png"}
    alone, broken = (record.getMessage() for record in caplog.records)
    folders = f"{tmp_path / 'a'}, {tmp_path / 'b'}"
    assert alone == f"{folders}: 2 unpaired files skipped (a/alone.png, b/other.png)"
    assert "broken.png" in broken


@pytest.mark.parametrize("recipe", ["supervised", "pix2pix"])
def test_training_prints_how_many_files_have_no_partner_and_the_first_names(recipe: str, tmp_path: Path) -> None:
    for number in range(8):
        write(tmp_path / "a" / f"{number}.png", gradient(96, 96))
    write(tmp_path / "b" / "7.png", gradient(96, 96))
    small = ["generator=frame", "preset=nano", "load_size=64", "crop_size=64", "batch_size=1", "precision=fp32"]
    settings = [part for setting in [*small, "tensorboard=false"] for part in ("--set", setting)]
    folders = ["--domain-a", tmp_path / "a", "--domain-b", tmp_path / "b"]
    done = run_command("train", recipe, *folders, "--out", tmp_path / "run", "--steps", 1, *settings)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "unpaired" in line]
    names = ", ".join(f"a/{number}.png" for number in range(5))
    assert line == f"{tmp_path / 'a'}, {tmp_path / 'b'}: 7 unpaired files skipped ({names} and 2 more)"
    (tmp_path / "b" / "7.png").rename(tmp_path / "b" / "other.png")
    done = run_command("train", recipe, *folders, "--out", tmp_path / "none", "--steps", 1, *settings)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == (
        f"error: {tmp_path / 'a'}, {tmp_path / 'b'}: no file names in common, so no pairs, such as 0.png and other.png; "
        "name the images alike in both"
    )


def test_only_folders_and_files_of_digits_are_domains(tmp_path: Path) -> None:
    write(tmp_path / "photo.png", gradient())
    with pytest.raises(InputError, match="neither a folder of images nor a file of digits; expected .*npz"):
        open_domain(tmp_path / "photo.png", (40, 40), 32)
    with pytest.raises(InputError, match="no such folder"):
        open_domain(tmp_path / "nowhere", (40, 40), 32)


def test_facades_are_pairs_of_photo_and_plan() -> None:
    folder = shared("data/facades/val")
    photo, plan = PairedData(folder, folder, (143, 143), 128).batch(0, 0, 2)
    assert photo.shape == plan.shape == (2, 3, 128, 128)

    def flat(images: Tensor) -> float:  # plans are areas of one color
        return (images[..., 1:] - images[..., :-1]).abs().lt(0.02).float().mean().item()

    assert flat(plan) > flat(photo)


def test_resizing_the_short_side_keeps_the_aspect_ratio() -> None:
    assert resize_short_side(gradient(48, 64), 24).shape == (24, 32, 3)
    assert resize_short_side(gradient(64, 48), 96).shape == (128, 96, 3)
