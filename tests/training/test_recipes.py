"""Every recipe trains its networks, resumes exactly, and is exported as a model that runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

import cyclecast
from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.frame_graph import LatentGraph, reference
from cyclecast.export.onnx import export_onnx
from cyclecast.runtime.engines import open_engine
from cyclecast.spec import ModelSpec
from cyclecast.training import checkpoint
from cyclecast.training.config import TrainConfig
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.loop import train
from cyclecast.training.losses import gradient_penalty
from cyclecast.training.networks import ConvGenerator, FrameGenerator, MlpGenerator, ResnetGenerator, UnetGenerator
from cyclecast.training.processes import Processes
from cyclecast.training.recipes import RECIPES
from cyclecast.training.recipes.wgan import Wgan
from tests.conftest import different, moving_frames

SmallConfig = Callable[..., TrainConfig]

ADVERSARIAL = ["adversarial_ab", "adversarial_ba"]
CYCLE = ["cycle_a", "cycle_b"]
IDENTITY = ["identity_a", "identity_b"]
DISCRIMINATORS = ["discriminator_a", "discriminator_b"]
FASTCUT = {"nce_weight": 10, "identity_weight": 0, "flip_equivariance": True}
UNET = {"generator": "unet32"}
FRAME = {"generator": "frame", "width": 4, "blocks": 3}
STEPS = 2

# name -> recipe, settings, the losses that it logs
CASES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "gan": ("gan", {"discriminator_steps": 2}, ["discriminator", "generator"]),
    "dcgan": ("dcgan", {"upsample": "deconvolution"}, ["discriminator", "generator"]),
    "wgan": ("wgan", {}, ["generator", "wasserstein_distance"]),
    "wgan-penalty": ("wgan", {"penalty": True}, ["generator", "penalty", "wasserstein_distance"]),
    "cyclegan": ("cyclegan", {}, ADVERSARIAL + CYCLE + IDENTITY + DISCRIMINATORS),
    "cycle_alone": ("cyclegan", {"variant": "cycle_alone"}, CYCLE),
    "gan_alone": ("cyclegan", {"variant": "gan_alone", "identity_weight": 0}, ADVERSARIAL + DISCRIMINATORS),
    "gan_forward": ("cyclegan", {"variant": "gan_forward"}, [*ADVERSARIAL, "cycle_a", *DISCRIMINATORS]),
    "gan_backward": ("cyclegan", {"variant": "gan_backward"}, [*ADVERSARIAL, "cycle_b", *DISCRIMINATORS]),
    "unet": ("cyclegan", UNET | {"identity_weight": 0}, ADVERSARIAL + CYCLE + DISCRIMINATORS),
    "log": ("cyclegan", {"adversarial": "log", "augment": True}, ADVERSARIAL + CYCLE + IDENTITY + DISCRIMINATORS),
    "wasserstein": (
        "cyclegan",
        {"adversarial": "wasserstein", "memory_format": "channels_last"},
        ADVERSARIAL + CYCLE + IDENTITY + DISCRIMINATORS,
    ),
    "n_layers": (
        "cyclegan",
        {"discriminator": "n_layers", "discriminator_layers": 2, "color_weight": 1},
        [*ADVERSARIAL, *CYCLE, "color_a", "color_b", *IDENTITY, *DISCRIMINATORS],
    ),
    "pixel": ("cyclegan", {"discriminator": "pixel", "pool_size": 1}, ADVERSARIAL + CYCLE + IDENTITY + DISCRIMINATORS),
    "pixelshuffle": ("cyclegan", {"upsample": "pixelshuffle", "skip": True}, ADVERSARIAL + CYCLE + IDENTITY + DISCRIMINATORS),
    "projected": (
        "cyclegan",
        {"discriminator": "projected", "generator": "frame", "width": 8, "blocks": 3, "identity_weight": 0, "augment": True},
        ADVERSARIAL + CYCLE + DISCRIMINATORS,
    ),
    "no-norm": ("cyclegan", {"norm": "none", "upsample": "resize"}, ADVERSARIAL + CYCLE + IDENTITY + DISCRIMINATORS),
    "cut": ("cut", {}, ["adversarial", "discriminator", "nce", "nce_identity"]),
    "fastcut": ("cut", FASTCUT | {"direction": "b2a"}, ["adversarial", "discriminator", "nce"]),
    "pix2pix-a2b": ("pix2pix", {}, ["adversarial", "discriminator", "paired"]),
    "pix2pix-b2a": ("pix2pix", FRAME | {"direction": "b2a"}, ["adversarial", "discriminator", "paired"]),
    "cogan": ("cogan", {"upsample": "pixelshuffle"}, ["adversarial_a", "adversarial_b", *DISCRIMINATORS]),
    "bigan": ("bigan", FRAME, [*ADVERSARIAL, "discriminator"]),
    "simgan": ("simgan", {}, [*ADVERSARIAL, "regularization_a", "regularization_b", *DISCRIMINATORS]),
}


@pytest.fixture(scope="module")
def finished(small_config: SmallConfig, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a case's whole run of `STEPS` steps, trained once."""
    folder = tmp_path_factory.mktemp("finished")

    def run(name: str) -> Path:
        recipe, settings, losses = CASES[name]
        if not (folder / name).exists():
            report = train(recipe, small_config(recipe, folder / name, steps=STEPS, **settings))
            assert sorted(report.losses) == sorted(losses)
        return folder / name

    return run


def moved(run: Path, config: TrainConfig, recipe: str) -> dict[str, bool]:
    """Returns, for each network, whether all its layers have left the values that the seed gave them."""
    torch.manual_seed(config.seed)
    fresh, state = RECIPES[recipe](config).networks, read_state(run)["networks"]
    return {  # biases aside: a critic's last one cancels out of its loss
        name: all(not torch.equal(p, state[name][key]) for key, p in network.named_parameters() if key.endswith("weight"))
        for name, network in fresh.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_of_each_recipe_equals_an_uninterrupted_one_bit_for_bit(
    name: str, finished: Callable[[str], Path], small_config: SmallConfig, tmp_path: Path
) -> None:
    recipe, settings, _ = CASES[name]
    whole, parts = finished(name), small_config(recipe, tmp_path / "parts", steps=STEPS, **settings)
    untouched = set(DISCRIMINATORS) if name == "cycle_alone" else set()
    assert {network for network, has in moved(whole, parts, recipe).items() if not has} == untouched

    assert train(recipe, parts, until=1).steps == 1
    assert different(whole, tmp_path / "parts") != []
    train(recipe, parts, resume=True)
    assert different(whole, tmp_path / "parts") == []


@pytest.mark.parametrize(
    ("name", "direction", "network"),
    [
        ("unet", "b2a", UnetGenerator),
        ("pixelshuffle", "a2b", ResnetGenerator),
        ("projected", "b2a", FrameGenerator),
        ("no-norm", "a2b", ResnetGenerator),
        ("pix2pix-b2a", None, FrameGenerator),
        ("bigan", "a2b", FrameGenerator),
        ("simgan", "b2a", ResnetGenerator),
    ],
)
def test_an_image_recipe_becomes_a_frame_model(
    name: str, direction: str | None, network: type, finished: Callable[[str], Path], tmp_path: Path
) -> None:
    trained = read_generator(finished(name), direction)
    assert isinstance(trained.network, network) and trained.direction == (direction or name[-3:])
    (agreement,) = export_onnx(trained, tmp_path / "m.onnx", size=(52, 38))
    assert agreement.passed and agreement.frames > 0
    frame = moving_frames(1, 52, 38)[0]
    with cyclecast.load(tmp_path / "m.onnx", "onnxruntime") as model:
        assert (model.spec.model_type, model.spec.recipe, model.spec.direction) == ("frame", CASES[name][0], trained.direction)
        assert model.spec.architecture == trained.architecture
        expected = reference(trained.network, torch.from_numpy(frame))  # type: ignore[arg-type]
        assert np.abs(model(frame).astype(int) - expected.numpy()).max() <= 1


@pytest.mark.parametrize(
    ("name", "direction", "network", "side"),
    [
        ("gan", "sample", MlpGenerator, 8),
        ("dcgan", "sample", ConvGenerator, 8),
        ("wgan", "sample", ConvGenerator, 8),
        ("cogan", "b", ConvGenerator, 32),
    ],
)
def test_a_latent_recipe_becomes_a_latent_model_for_any_batch_size(
    name: str, direction: str, network: type, side: int, finished: Callable[[str], Path], tmp_path: Path
) -> None:
    trained = read_generator(finished(name), direction)
    assert isinstance(trained.network, network) and trained.frames == []
    assert [agreement.passed for agreement in export_onnx(trained, tmp_path / "m.onnx")] == [True]

    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    (latent,), (image,) = session.get_inputs(), session.get_outputs()
    assert (latent.name, latent.type, latent.shape) == ("latent", "tensor(float)", ["count", 4])
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["count", side, side, 3])
    spec = ModelSpec.from_json(session.get_modelmeta().custom_metadata_map["cyclecast"])
    assert (spec.model_type, spec.recipe, spec.direction, spec.steps) == ("latent", name, direction, STEPS)
    latents = torch.randn(7, 4)
    expected = LatentGraph(trained.network)(latents).detach().numpy()  # type: ignore[arg-type]
    for count in (1, 7):
        (made,) = session.run(None, {"latent": latents[:count].numpy()})
        assert np.abs(np.asarray(made).astype(int) - expected[:count]).max() <= 1

    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(ModelError, match="m.onnx: a latent model .noise in, images out") as error:
            open_engine(tmp_path / "m.onnx", engine)
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError):
        cyclecast.load(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="trains a latent model, which has no input frame"):
        export_onnx(trained, tmp_path / "n.onnx", size=(32, 32))


def test_every_recipe_has_its_case() -> None:
    own = {"distill", "style_transfer", "supervised"}  # test_distill.py, test_style_recipes.py
    assert {recipe for recipe, _, _ in CASES.values()} == set(RECIPES) - own


class Recording(Learner):
    """A learner that records its batches."""

    def __call__(self, name: str, loss: Callable[..., LossTerms], *batch: Tensor) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        self.batches = [*getattr(self, "batches", []), (name, *batch)]
        return super().__call__(name, loss, *batch)


def step_once(recipe_name: str, config: TrainConfig) -> list[tuple[Any, ...]]:
    """Returns (optimizer, tensors ...) of every update of a recipe's first step, and its batch last."""
    recipe = RECIPES[recipe_name](config)
    learner = Recording(recipe.networks, recipe.optimizers, torch.device("cpu"))
    batch = recipe.batch(0, Processes())
    recipe.step(batch, learner, 0)
    return [*learner.batches, ("batch", *batch)]


@pytest.mark.parametrize("recipe", ["gan", "wgan"])
def test_each_discriminator_step_gets_new_images_and_noise(recipe: str, small_config: SmallConfig, tmp_path: Path) -> None:
    settings = {"discriminator_steps": 3} if recipe == "gan" else {"critic_steps": 3}
    *updates, (_, batch) = step_once(recipe, small_config(recipe, tmp_path, **settings))
    assert [name for name, *_ in updates] == ["discriminator"] * 3 + ["generator"]
    assert torch.equal(torch.cat([real for _, real, _ in updates[:3]]), batch)
    assert len(batch) == 12 and not torch.equal(batch[:4], batch[4:8])
    assert len({noise.numpy().tobytes() for *_, noise in updates}) == 4


def test_the_saturating_setting_selects_the_minimax_loss(small_config: SmallConfig, tmp_path: Path) -> None:
    def first_loss(saturating: bool) -> float:
        return train("gan", small_config("gan", tmp_path / f"{saturating}", steps=1, saturating=saturating)).losses["generator"]

    log_d, minimax = first_loss(False), first_loss(True)  # -log D and log (1 - D), of one and the same D
    assert np.exp(-log_d) + np.exp(minimax) == pytest.approx(1, abs=0.02)
    assert minimax < 0 < log_d


def test_clipping_bounds_the_critics_weights_and_a_penalty_does_not(finished: Callable[[str], Path]) -> None:
    def largest(name: str) -> float:
        critic = read_state(finished(name))["networks"]["discriminator"]
        return max(float(v.abs().max()) for k, v in critic.items() if "running" not in k and "tracked" not in k)

    assert largest("wgan") == pytest.approx(0.01)
    assert largest("wgan-penalty") > 0.02


def test_the_critic_is_trained_more_often_than_the_generator(
    finished: Callable[[str], Path], small_config: SmallConfig, tmp_path: Path
) -> None:
    optimizers = read_state(finished("wgan"))["optimizers"]
    assert [int(optimizers[name]["state"][0]["step"]) for name in ("generator", "discriminator")] == [STEPS, 2 * STEPS]

    warm = Wgan(small_config("wgan", tmp_path, warm_up=True, critic_steps=5))  # type: ignore[arg-type]
    assert [warm.discriminator_steps(step) for step in (0, 24, 25, 499, 500, 501)] == [100, 100, 5, 5, 100, 5]
    assert len(warm.batch(0, Processes())[0]) == 400 and len(warm.batch(25, Processes())[0]) == 20
    cold = Wgan(small_config("wgan", tmp_path, warm_up=False))  # type: ignore[arg-type]
    assert {cold.discriminator_steps(step) for step in range(600)} == {2}


def test_cogans_shared_layers_stay_equal_and_the_others_differ(
    finished: Callable[[str], Path], small_config: SmallConfig, tmp_path: Path
) -> None:
    config = small_config("cogan", tmp_path / "parts", upsample="pixelshuffle", steps=STEPS)
    train("cogan", config, until=1)
    train("cogan", config, resume=True)
    layers = {role: len(RECIPES["cogan"](config).networks[f"{role}_a"].model) for role in ("generator", "discriminator")}
    for state in (read_state(finished("cogan")), read_state(tmp_path / "parts")):
        for part, role in (("networks", "generator"), ("averages", "generator"), ("networks", "discriminator")):
            one, other = (state[part][f"{role}_{domain}"] for domain in "ab")
            weights = {key for key in one if key.endswith("weight")}
            first = {key for key in weights if int(key.split(".")[1]) < layers[role] // 2}
            tied = {key for key in weights if torch.equal(one[key], other[key])}
            assert tied == (first if role == "generator" else weights - first)
            assert 0 < len(tied) < len(weights)


def test_a_wasserstein_discriminator_has_a_gradient_penalty(small_config: SmallConfig, tmp_path: Path) -> None:
    real, fake = torch.randn(2, 1, 3, 32, 32)
    for weight in (0.0, 10.0):
        recipe = RECIPES["cyclegan"](small_config("cyclegan", tmp_path, adversarial="wasserstein", penalty_weight=weight))
        torch.manual_seed(0)
        total, loss = recipe.discriminator_loss("discriminator_a", real, fake)
        torch.manual_seed(0)
        penalty = gradient_penalty(recipe.networks["discriminator_a"], real, fake)
        assert penalty > 0.1
        torch.testing.assert_close(total - loss, weight * penalty)


def test_pix2pix_trains_on_both_halves_of_one_image(small_config: SmallConfig, tmp_path: Path) -> None:
    for direction in ("a2b", "b2a"):
        updates = step_once("pix2pix", small_config("pix2pix", tmp_path, direction=direction, batch_size=2))
        (_, source, target), (_, *_, fake), (_, real_a, real_b) = updates
        assert torch.equal(source, real_a if direction == "a2b" else real_b) and fake.shape == target.shape
        torch.testing.assert_close(real_a, -real_b, atol=0.03, rtol=0)  # the right half is the left one's negative


def test_the_output_of_a_latent_model_is_bgr() -> None:
    torch.manual_seed(0)
    network = ConvGenerator(latent=3, image_size=8, channels=3, ngf=2).eval()
    latents = torch.randn(2, 3)
    with torch.no_grad():
        rgb = network(latents).permute(0, 2, 3, 1).numpy()
        made = LatentGraph(network)(latents).numpy()
    assert np.abs(made - ((rgb[..., ::-1] + 1) * 127.5)).max() <= 0.51
    assert np.ptp(made.reshape(-1, 3).mean(0)) > 1  # the channels differ


def test_every_recipe_writes_its_sample_sheets(finished: Callable[[str], Path]) -> None:
    sheets = {
        "gan": ["sample"],
        "pix2pix-b2a": ["b2a"],
        "cogan": ["a", "a2b", "b", "b2a"],
        "simgan": ["a2b", "b2a"],
        "cut": ["a2b"],
    }
    for name, expected in sheets.items():
        run = finished(name)
        assert sorted(path.stem for path in run.glob("*.jpg")) == expected
        assert all(cv2.imread(str(path)) is not None for path in run.glob("*.jpg"))
        assert (run / "index.html").is_file()


def read_state(run: Path) -> dict[str, Any]:
    """Reads the state in a run's checkpoint."""
    return checkpoint.load(run / checkpoint.NAME)
