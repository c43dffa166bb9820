"""One update: of the right weights, by the gradient of the whole batch, in the arithmetic that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from cyclecast.errors import ConfigError
from cyclecast.training import checkpoint
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.loop import train
from cyclecast.training.machine import pick_memory_format, pick_precision
from cyclecast.training.networks import build_generator
from cyclecast.training.networks.patch import build_discriminator
from tests.conftest import on_cuda, tiny_config

CPU = torch.device("cpu")


class Game:
    """A generator and a discriminator, an optimizer for each, and the generator's loss."""

    def __init__(self, device: torch.device = CPU, precision: str = "fp32", accumulate: int = 1) -> None:
        torch.manual_seed(0)
        self.generator = build_generator("resnet6", ngf=2).to(device)
        self.discriminator = build_discriminator("n_layers", 2, 1).to(device)
        self.networks = {"generator": self.generator, "discriminator": self.discriminator}
        optimizers = {name: SGD(network.parameters(), 0.1) for name, network in self.networks.items()}
        self.learn = Learner(self.networks, optimizers, device, precision, accumulate)

    def loss(self, real: Tensor) -> LossTerms:
        fake = self.generator(real)
        adversarial = (self.discriminator(fake).float() - 1).square().mean()
        return LossTerms(adversarial, {"adversarial": adversarial, "level": fake.mean()}, (fake,))

    def step(self, real: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        parts, (fake,) = self.learn("generator", self.loss, real)
        return parts, fake


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def test_accumulation_has_the_weights_and_losses_of_the_whole_batch() -> None:
    real = torch.randn(4, 3, 32, 32)
    whole, parts = Game(), Game(accumulate=2)
    start = weights(whole.generator)
    (whole_losses, whole_fake), (parts_losses, parts_fake) = whole.step(real), parts.step(real)
    torch.testing.assert_close(parts_fake, whole_fake)
    torch.testing.assert_close(parts_losses, whole_losses)
    torch.testing.assert_close(weights(parts.generator), weights(whole.generator), rtol=1e-4, atol=1e-7)
    largest = max((weights(whole.generator)[key] - value).abs().max().item() for key, value in start.items())
    assert largest > 1e-3  # far more than the tolerance


def test_only_the_optimizers_own_weights_change_and_have_gradients() -> None:
    game = Game()
    before = weights(game.generator), weights(game.discriminator)
    _, fake = game.step(torch.randn(2, 3, 32, 32))
    assert not fake.requires_grad
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in game.generator.parameters())
    assert all(p.grad is None for p in game.discriminator.parameters())
    assert all(not torch.equal(value, before[0][key]) for key, value in game.generator.named_parameters())
    assert all(torch.equal(value, before[1][key]) for key, value in game.discriminator.named_parameters())

    game.learn("discriminator", lambda real: LossTerms(game.discriminator(real).mean(), {}), torch.randn(2, 3, 32, 32))
    assert not any(torch.equal(value, before[1][key]) for key, value in game.discriminator.named_parameters())
    assert all(p.requires_grad for p in game.discriminator.parameters())
    assert not any(p.requires_grad for p in game.generator.parameters())


def test_a_second_step_starts_with_gradients_of_zero() -> None:
    real = torch.randn(1, 3, 32, 32)
    game = Game()
    game.step(real)
    first = next(game.generator.parameters())
    (gradient,) = torch.autograd.grad(game.loss(real).total, [first])
    game.step(real)
    torch.testing.assert_close(first.grad, gradient)


def test_bf16_keeps_weights_losses_and_outputs_in_fp32() -> None:
    real = torch.randn(2, 3, 32, 32)
    exact, rough = Game(), Game(precision="bf16")
    (exact_losses, exact_fake), (losses, fake) = exact.step(real), rough.step(real)
    assert fake.dtype == torch.float32 and {value.dtype for value in losses.values()} == {torch.float32}
    assert {p.dtype for p in rough.generator.parameters()} == {torch.float32}
    assert not torch.equal(fake, exact_fake)  # it is another arithmetic
    torch.testing.assert_close(losses, exact_losses, atol=0.02, rtol=0.02)


def test_fp16_on_a_cpu_is_an_error(domains: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="precision fp16 trains only on CUDA; on cpu use bf16 or fp32"):
        pick_precision("fp16", CPU)
    with pytest.raises(ConfigError, match="fp16"):
        train("cyclegan", tiny_config(domains, tmp_path / "run", steps=1, precision="fp16", device="cpu"))
    assert not (tmp_path / "run").exists()
    assert pick_precision("fp32", CPU) == "fp32"
    assert pick_precision("auto", CPU) in ("fp32", "bf16")


@pytest.mark.parametrize(
    ("name", "device", "side", "innermost"),
    [
        ("auto", "cpu", 64, True),
        ("auto", "cpu", 63, False),
        ("auto", "cuda", 256, False),
        ("channels_last", "cuda", 32, True),
        ("contiguous", "cpu", 256, False),
    ],
)
def test_auto_picks_the_faster_memory_format(name: str, device: str, side: int, innermost: bool) -> None:
    expected = torch.channels_last if innermost else torch.contiguous_format
    assert pick_memory_format(name, torch.device(device), side) == expected


def test_the_memory_format_does_not_change_results(domains: Path, tmp_path: Path) -> None:
    losses = [
        train("cyclegan", tiny_config(domains, tmp_path / name, steps=2, memory_format=name)).losses
        for name in ("contiguous", "channels_last")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("name", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, on_cuda])])
def test_fp16_scales_its_losses_and_skips_a_step_that_overflows(name: str) -> None:
    device = torch.device(name)
    game = Game(device, "fp16")
    real = torch.randn(2, 3, 32, 32).to(device)
    before = weights(game.generator)
    scaler = game.learn.scalers["generator"]
    scale = scaler.get_scale()
    assert scale > 1

    def overflowing(real: Tensor) -> LossTerms:
        terms = game.loss(real)
        return LossTerms(terms.total * 1e38, terms.parts, terms.outputs)

    game.learn("generator", overflowing, real)
    assert all(torch.equal(value, before[key]) for key, value in weights(game.generator).items())
    assert scaler.get_scale() == scale / 2

    scaler.update(2.0**8)
    exact = Game(device)
    (losses, _), (exact_losses, _) = game.step(real), exact.step(real)
    torch.testing.assert_close(losses, exact_losses, atol=0.01, rtol=0.01)
    for (key, value), other in zip(game.generator.named_parameters(), exact.generator.parameters(), strict=True):
        assert not torch.equal(value, before[key])
        step, exact_step = value - before[key], other - before[key]
        assert (step - exact_step).norm() < 0.2 * exact_step.norm()  # the scale is taken out again


@pytest.mark.gpu
@on_cuda
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_run_on_cuda_stops_and_resumes(precision: str, domains: Path, tmp_path: Path) -> None:
    config = tiny_config(domains, tmp_path / "run", steps=4, device="cuda", precision=precision)
    train("cyclegan", config, until=2)
    assert train("cyclegan", config, resume=True).steps == 4
    state = checkpoint.load(tmp_path / "run" / checkpoint.NAME)
    assert state["precision"] == precision
    assert all(("scale" in scaler) == (precision == "fp16") for scaler in state["scalers"].values())
