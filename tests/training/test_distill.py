"""A student learns its teacher's output, resumes exactly, and is exported as a small frame model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import cyclecast
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.frame_graph import reference
from cyclecast.export.onnx import export_onnx
from cyclecast.training import checkpoint
from cyclecast.training.config import TrainConfig
from cyclecast.training.loop import train
from cyclecast.training.networks import FrameGenerator, build_generator
from cyclecast.training.recipes.distill import Distill, record_outputs
from cyclecast.training.shift_average import shift_averaged
from cyclecast.training.steadiness_loss import steadiness_loss
from tests.conftest import different, moving_frames

SmallConfig = Callable[..., TrainConfig]
IMITATION = ["channel", "feature", "pixel", "smoothness", "ssim", "style"]
SMALL: dict[str, Any] = {"width": 8, "blocks": 3, "direction": "b2a"}
ALL_OF_IT = {"online": True, "adversarial_weight": 1, "steadiness_weight": 1}


def test_training_reduces_the_students_distance_to_its_teacher(small_config: SmallConfig, teacher: Path, tmp_path: Path) -> None:
    settings = SMALL | {"teacher": teacher, "learning_rate": 3e-3, "ema_decay": 0.9, "steps": 150}
    config = small_config("distill", tmp_path / "run", **settings)
    report = train("distill", config)
    assert sorted(report.losses) == sorted([*IMITATION, "steadiness"])

    recipe = Distill(config)  # type: ignore[arg-type]
    images = recipe.fixed_set()["b2a"]

    def error(student: torch.nn.Module) -> float:
        with torch.no_grad():
            return float((student(images) - shift_averaged(recipe.teacher, images, shifts=4)).abs().mean())

    fresh = error(recipe.averages["generator_ba"])
    checkpoint.restore_weights(checkpoint.load(tmp_path / "run" / checkpoint.NAME), recipe)
    assert error(recipe.averages["generator_ba"]) < 0.6 * fresh


def test_a_run_with_every_option_resumes_bit_for_bit(small_config: SmallConfig, teacher: Path, tmp_path: Path) -> None:
    settings = SMALL | ALL_OF_IT | {"teacher": teacher}
    whole, parts = (small_config("distill", tmp_path / name, **settings) for name in ("whole", "parts"))
    losses = train("distill", whole).losses
    assert {"teacher_cycle_a", "teacher_discriminator_b", "adversarial", "discriminator_a", "steadiness", *IMITATION} <= set(
        losses
    )
    train("distill", parts, until=2)
    assert different(tmp_path / "whole", tmp_path / "parts") != []
    train("distill", parts, resume=True)
    assert different(tmp_path / "whole", tmp_path / "parts") == []


def test_the_students_discriminator_starts_with_the_teachers_weights(
    small_config: SmallConfig, teacher: Path, tmp_path: Path
) -> None:
    config = small_config("distill", tmp_path / "run", **SMALL, teacher=teacher, adversarial_weight=1)
    started = Distill(config).networks["discriminator_a"].state_dict()  # type: ignore[arg-type]
    saved = checkpoint.load(teacher / checkpoint.NAME)["networks"]["discriminator_a"]
    assert all(torch.equal(started[key], value) for key, value in saved.items())


def test_a_student_becomes_a_frame_model_of_any_size(small_config: SmallConfig, teacher: Path, tmp_path: Path) -> None:
    train("distill", small_config("distill", tmp_path / "run", **SMALL, teacher=teacher, steps=2))
    trained = read_generator(tmp_path / "run")
    assert isinstance(trained.network, FrameGenerator) and trained.direction == "b2a"
    with torch.no_grad():
        for parameter in trained.network.parameters():  # far from the identity, so that each fold has to be right
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    assert all(agreement.passed for agreement in export_onnx(trained, tmp_path / "m.onnx"))
    with cyclecast.load(tmp_path / "m.onnx", "onnxruntime") as model:
        assert (model.spec.recipe, model.spec.architecture) == ("distill", trained.architecture)
        for width, height in ((52, 38), (16, 17)):
            frame = moving_frames(1, width, height)[0]
            expected = reference(trained.network, torch.from_numpy(frame)).numpy()
            assert np.abs(model(frame).astype(int) - expected).max() <= 1
            assert np.abs(expected.astype(int) - frame).mean() > 2


@pytest.mark.parametrize("name", ["resnet6", "resnet9", "unet32", "frame"])
def test_four_depths_are_recorded_in_order(name: str) -> None:
    settings = {"width": 8, "blocks": 3} if name == "frame" else {"ngf": 4}
    network: Any = build_generator(name, **settings)
    with record_outputs(network.depths()) as maps:
        network(torch.zeros(2, 3, 32, 32))
    assert len(maps) == 4 and all(each.ndim == 4 and len(each) == 2 for each in maps)
    with record_outputs(network.depths()) as later:
        pass
    network(torch.zeros(2, 3, 32, 32))
    assert later == []  # the hooks are removed


def test_a_style_that_moves_with_its_input_has_a_low_steadiness_loss() -> None:
    torch.manual_seed(0)
    images = torch.nn.functional.avg_pool2d(torch.randn(4, 3, 72, 72), 9, 1)  # smooth: 64x64

    def pointwise(x: Tensor) -> Tensor:
        return 0.5 * x

    def pinned(x: Tensor) -> Tensor:
        return x + torch.linspace(-1, 1, 64).sin().mul(20).sin()  # a pattern that does not move with the image

    torch.manual_seed(1)
    moving = float(steadiness_loss(pointwise, images, pointwise(images)))
    torch.manual_seed(1)
    staying = float(steadiness_loss(pinned, images, pinned(images)))
    assert moving < 0.02 and staying > moving + 0.05


def test_noise_in_the_output_raises_the_steadiness_loss() -> None:
    torch.manual_seed(0)
    images = torch.zeros(4, 3, 64, 64)
    copied = steadiness_loss(lambda x: x, images, images).item()
    levelled = steadiness_loss(lambda x: x.mean((2, 3), keepdim=True).expand_as(x), images, images).item()
    assert 0.01 < copied < 0.05 and levelled < 0.002


def test_the_discriminator_gets_the_students_output_at_the_teachers_scale(
    small_config: SmallConfig, teacher: Path, tmp_path: Path
) -> None:
    settings = SMALL | {"teacher": teacher, "adversarial_weight": 1, "teacher_scale": 0.5, "crop_size": 64}
    recipe = Distill(small_config("distill", tmp_path / "run", **settings, load_size=64))  # type: ignore[arg-type]
    sides: list[int] = []
    recipe.networks["discriminator_a"].register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[2]))
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    assert "adversarial" in recipe._student_loss(images).parts
    recipe._discriminator_loss(images, images)
    assert sides == [32, 32]
