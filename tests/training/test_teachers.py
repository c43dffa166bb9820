"""Teachers of the recipe distill: which runs can be one, how their outputs are computed, and online training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.checkpoints import read_generator
from cyclecast.training import checkpoint
from cyclecast.training.config import TrainConfig, load_config
from cyclecast.training.loop import train
from cyclecast.training.networks import build_generator
from cyclecast.training.recipes.distill import DistillConfig
from cyclecast.training.shift_average import shift_averaged
from tests.conftest import different

SmallConfig = Callable[..., TrainConfig]
SMALL: dict[str, Any] = {"width": 8, "blocks": 3, "direction": "b2a"}


def state_of(run: Path) -> dict[str, Any]:
    """Reads the state in a run's checkpoint."""
    return checkpoint.load(run / checkpoint.NAME)


def changed(run: Path, into: Path, **parts: Any) -> Path:
    """Copies the checkpoint of a run, with these `parts` instead of its own."""
    into.mkdir()
    checkpoint.save(into / checkpoint.NAME, state_of(run) | parts)
    return into


@pytest.mark.parametrize("recipe", ["cogan", "pix2pix", "dcgan"])
def test_a_run_that_cannot_teach_is_an_error_that_lists_those_that_can(
    recipe: str, small_config: SmallConfig, tmp_path: Path
) -> None:
    train(recipe, small_config(recipe, tmp_path / recipe, steps=1))
    with pytest.raises(ConfigError, match=f"teacher must be a run of cyclegan, simgan or cut, got one of {recipe}") as caught:
        train("distill", small_config("distill", tmp_path / "run", teacher=tmp_path / recipe))
    assert "\n" not in str(caught.value)


def test_a_missing_teacher_and_one_that_cannot_train_online_are_errors(small_config: SmallConfig, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such checkpoint"):
        train("distill", small_config("distill", tmp_path / "a", teacher=tmp_path / "nothing"))
    train("simgan", small_config("simgan", tmp_path / "simgan", steps=1))
    with pytest.raises(ConfigError, match="online must be false"):
        train("distill", small_config("distill", tmp_path / "b", teacher=tmp_path / "simgan", online=True))
    train("distill", small_config("distill", tmp_path / "c", teacher=tmp_path / "simgan", steps=1))


PROJECTED, LAYERS = {"discriminator": "projected"}, {"discriminator": "n_layers", "discriminator_layers": 1}


@pytest.mark.parametrize(
    ("discriminator", "crop_size", "teacher_scale", "adversarial_weight", "message"),
    [
        ({}, 32, 0.5, 1, "crop_size x teacher_scale must be at least 24 for the teacher's discriminator, got 16"),
        ({}, 64, 0.3, 1, "crop_size x teacher_scale must be at least 24 for the teacher's discriminator, got 19"),
        ({}, 32, 0.1, 1, "crop_size x teacher_scale must be at least 24 for the teacher's discriminator, got 3"),
        ({}, 16, 1.0, 0, "crop_size must be at least 24 for the teacher's discriminator, got 16"),
        ({}, 24, 1.0, 1, None),
        ({}, 32, 0.1, 0, None),
        (LAYERS, 32, 0.1, 1, "crop_size x teacher_scale must be at least 6 for the teacher's discriminator, got 3"),
        (LAYERS, 16, 0.375, 1, None),
        ({"discriminator": "pixel"}, 16, 0.1, 1, None),
        (PROJECTED, 32, 0.5, 1, "crop_size x teacher_scale must be a multiple of 32 for the teacher's discriminator, got 16"),
        (PROJECTED, 40, 1.0, 0, "crop_size must be a multiple of 32 for the teacher's discriminator, got 40"),
        (PROJECTED, 64, 0.5, 1, None),
    ],
)
def test_sizes_that_the_teachers_discriminator_rejects_are_errors_and_others_train(
    discriminator: dict[str, Any],
    crop_size: int,
    teacher_scale: float,
    adversarial_weight: float,
    message: str | None,
    small_config: SmallConfig,
    tmp_path: Path,
) -> None:
    train("cyclegan", small_config("cyclegan", tmp_path / "teacher", steps=1, **discriminator))
    settings = {"teacher_scale": teacher_scale, "adversarial_weight": adversarial_weight, "augment": True}
    sides = {"crop_size": crop_size, "load_size": 64}
    config = small_config("distill", tmp_path / "run", **SMALL, **settings, **sides, teacher=tmp_path / "teacher", steps=1)
    if message is None:
        train("distill", config)
    else:
        with pytest.raises(ConfigError, match=message):
            train("distill", config)


@pytest.mark.parametrize("teacher_scale", [1.0, 0.5])
def test_a_unet_teaches_crops_of_any_size(teacher_scale: float, small_config: SmallConfig, tmp_path: Path) -> None:
    train("cyclegan", small_config("cyclegan", tmp_path / "teacher", steps=1, generator="unet32"))
    settings = SMALL | {"teacher": tmp_path / "teacher", "crop_size": 40, "teacher_scale": teacher_scale}
    losses = train("distill", small_config("distill", tmp_path / "run", **settings, steps=1)).losses
    assert losses["pixel"] > 0 and losses["channel"] > 0


def test_the_teacher_is_trained_only_with_online(small_config: SmallConfig, teacher: Path, tmp_path: Path) -> None:
    before = state_of(teacher)
    for online in (True, False):
        run = tmp_path / str(online)
        train("distill", small_config("distill", run, **SMALL, teacher=teacher, online=online, steps=2))
        state = state_of(run)
        kept = state["averages"]["teacher_generator_ba"] if online else state["networks"]["teacher"]
        same = all(torch.equal(kept[key], value) for key, value in before["averages"]["generator_ba"].items())
        assert same is not online


@pytest.mark.parametrize(("done", "decay"), [(10_000, 0.99), (100, 101 / 110)])
def test_with_online_the_teachers_average_keeps_its_own_decay(
    done: int, decay: float, small_config: SmallConfig, teacher: Path, tmp_path: Path
) -> None:
    settings = state_of(teacher)["config"] | {"ema_decay": 0.99}
    older = changed(teacher, tmp_path / "teacher", step=done, config=settings)
    train("distill", small_config("distill", tmp_path / "run", **SMALL, teacher=older, online=True, ema_decay=0.5, steps=1))
    state, before = state_of(tmp_path / "run"), state_of(teacher)["averages"]["generator_ba"]
    for key, weight in state["networks"]["teacher_generator_ba"].items():
        expected = decay * before[key] + (1 - decay) * weight
        torch.testing.assert_close(state["averages"]["teacher_generator_ba"][key], expected, rtol=0, atol=1e-6)
    changes = [(weight - before[key]).abs().max() for key, weight in state["networks"]["teacher_generator_ba"].items()]
    assert max(changes) > 1e-4  # far more than the tolerance


def test_with_online_a_teacher_trained_with_accumulation_needs_none_here(small_config: SmallConfig, tmp_path: Path) -> None:
    train("cyclegan", small_config("cyclegan", tmp_path / "teacher", steps=1, batch_size=2, accumulate=2))
    train("distill", small_config("distill", tmp_path / "run", **SMALL, teacher=tmp_path / "teacher", online=True, steps=1))


@pytest.mark.parametrize("online", [False, True])
def test_a_run_resumes_without_its_teachers_folder(
    online: bool, small_config: SmallConfig, teacher: Path, tmp_path: Path
) -> None:
    settings = SMALL | {"online": online, "adversarial_weight": 1, "steps": 3}
    whole, parts = (small_config("distill", tmp_path / name, **settings, teacher=teacher) for name in ("whole", "parts"))
    train("distill", whole)
    mine = shutil.copytree(teacher, tmp_path / "teacher")
    parts = load_config(DistillConfig, base=parts.to_dict(), settings={"teacher": mine})
    train("distill", parts, until=1)
    moved = mine.rename(tmp_path / "moved")
    train("distill", parts, resume=True, until=2)  # from the run's own copy
    named = load_config(DistillConfig, base=parts.to_dict(), settings={"teacher": moved})
    train("distill", named, resume=True)
    assert different(tmp_path / "whole", tmp_path / "parts") == ["/config/teacher"]


def test_a_resumed_run_keeps_its_teacher(small_config: SmallConfig, teacher: Path, tmp_path: Path) -> None:
    config = small_config("distill", tmp_path / "run", **SMALL, teacher=teacher, steps=2)
    train("distill", config, until=1)
    before = (tmp_path / "run" / checkpoint.NAME).read_bytes()
    averages = {key: dict(weights) for key, weights in state_of(teacher)["averages"].items()}
    averages["generator_ba"] = {key: value + 1 for key, value in averages["generator_ba"].items()}
    for other in (
        changed(teacher, tmp_path / "longer", step=3),
        changed(teacher, tmp_path / "weights", averages=averages),
    ):
        named = load_config(DistillConfig, base=config.to_dict(), settings={"teacher": other})
        with pytest.raises(ConfigError, match=f"{other}: not the teacher of this run, which a resumed run keeps"):
            train("distill", named, resume=True)
    missing = load_config(DistillConfig, base=config.to_dict(), settings={"teacher": tmp_path / "none"})
    with pytest.raises(ModelError, match="none: no such checkpoint; this run needs its teacher: leave the setting out"):
        train("distill", missing, resume=True)
    assert (tmp_path / "run" / checkpoint.NAME).read_bytes() == before


def test_a_run_of_an_older_version_with_discriminator_settings_is_read(
    small_config: SmallConfig, teacher: Path, tmp_path: Path
) -> None:
    config = small_config("distill", tmp_path / "whole", **SMALL, teacher=teacher, steps=2)
    train("distill", config)
    train("distill", small_config("distill", tmp_path / "parts", **SMALL, teacher=teacher, steps=2), until=1)
    settings = state_of(tmp_path / "parts")["config"] | {"discriminator": "basic", "discriminator_layers": 3, "ndf": 64}
    older = changed(tmp_path / "parts", tmp_path / "older", config=settings)

    assert read_generator(older).direction == "b2a"
    assert checkpoint.translators_from_checkpoint(state_of(older)).keys() == {"b2a"}
    train("distill", load_config(DistillConfig, base=settings, settings={"out": older}), resume=True)
    assert different(tmp_path / "whole", older) == []


class Gridded(nn.Module):
    """A teacher that halves the contrast of its input and adds dots at a distance of four pixels."""

    stride = 4

    def forward(self, x: Tensor) -> Tensor:
        dots = torch.zeros(x.shape[2:])
        dots[::4, ::4] = 0.4
        return 0.5 * x + dots


def test_shift_averaging_cancels_the_teachers_grid() -> None:
    images = functional.avg_pool2d(torch.randn(2, 3, 72, 72, generator=torch.Generator().manual_seed(0)), 9, 1)
    for seed in range(3):
        torch.manual_seed(seed)
        whole, half, one = (shift_averaged(Gridded(), images, shifts=shifts) - 0.5 * images for shifts in (4, 2, 1))
        torch.testing.assert_close(whole, torch.full_like(whole, 0.4 / 16), atol=1e-6, rtol=0)  # its mean, everywhere
        assert half.std() < 0.5 * one.std()


class Same(nn.Module):
    """A teacher that outputs its input, and records the sizes."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride, self.sizes = stride, set[tuple[int, ...]]()

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] % self.stride == 0 and x.shape[3] % self.stride == 0
        self.sizes.add(tuple(x.shape[2:]))
        return x


@pytest.mark.parametrize("stride", [4, 8, 128])
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.4])
def test_shift_averaged_outputs_are_aligned_with_the_input(scale: float, stride: int) -> None:
    ramp = torch.linspace(-0.8, 0.8, 96).expand(1, 3, 64, 96) + torch.linspace(-0.1, 0.1, 64)[:, None]
    taught = shift_averaged(Same(stride), ramp, scale, shifts=2)
    assert taught.shape == ramp.shape
    torch.testing.assert_close(taught[..., 16:-16, 16:-16], ramp[..., 16:-16, 16:-16], atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("stride", "shifts", "size"),
    [(4, 2, (44, 60)), (4, 5, (48, 64)), (32, 2, (64, 96)), (64, 2, (64, 128)), (256, 4, (256, 256))],
)
def test_at_scale_1_the_teacher_gets_the_pixels_without_resizing(stride: int, shifts: int, size: tuple[int, int]) -> None:
    teacher, noise = Same(stride), torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shift_averaged(teacher, noise, shifts=shifts), noise)  # resized, noise would not come back
    assert teacher.sizes == {size}  # the smallest that holds the image and its shifts


@pytest.mark.parametrize(("scale", "side"), [(1.0, 36), (0.5, 20), (0.3, 16)])
def test_shift_averaging_is_that_of_the_bundled_students(scale: float, side: int) -> None:
    torch.manual_seed(0)
    resnet = build_generator("resnet6", ngf=2, norm="none").eval().requires_grad_(False)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.manual_seed(1)
    taught = shift_averaged(resnet, images, scale)

    reach = round(4 / scale)  # of the moves; two each way
    torch.manual_seed(1)
    top, left = torch.randint(reach // 2, (2,)).tolist()
    padded, means = functional.pad(images, (reach,) * 4, mode="reflect"), []
    for y in (top, top + reach // 2):
        for x in (left, left + reach // 2):
            seen = padded[:, :, y : y + 32 + reach, x : x + 32 + reach]
            if scale != 1:
                seen = functional.interpolate(seen, [side, side], mode="bicubic", antialias=True)
            made = resnet(seen).clamp(-1, 1)
            assert made.shape[2:] == (side, side)
            if scale != 1:
                made = functional.interpolate(made, [32 + reach] * 2, mode="bicubic", antialias=True).clamp(-1, 1)
            means.append(made[:, :, reach - y : reach - y + 32, reach - x : reach - x + 32])
    torch.testing.assert_close(taught, torch.stack(means).mean(0), rtol=0, atol=1e-6)
