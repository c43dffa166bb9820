"""Networks hold what the paper says of them."""

from __future__ import annotations

import pytest
import torch

from cyclecast.training.networks import build_generator
from cyclecast.training.networks.layers import ReflectionPad, update_average
from cyclecast.training.networks.patch import build_discriminator


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_resnet9_has_the_papers_size_without_the_biases_that_its_norms_cancel() -> None:
    generator = build_generator("resnet9", ngf=64, upsample="deconvolution")
    cancelled = 64 + 128 + 256 + 18 * 256 + 128 + 64
    assert count(generator) + cancelled == 11_378_179  # pytorch-CycleGAN-and-pix2pix prints 11.378 M


@pytest.mark.parametrize("upsample", ["deconvolution", "resize"])
@pytest.mark.parametrize("name", ["resnet6", "resnet9"])
def test_generators_keep_shape_and_range(name: str, upsample: str) -> None:
    out = build_generator(name, ngf=4, upsample=upsample)(torch.randn(2, 3, 32, 48))
    assert out.shape == (2, 3, 32, 48)
    assert out.abs().max() <= 1


def test_state_dict_keys_are_those_of_the_reference_repository() -> None:
    keys = set(build_generator("resnet9", ngf=4, upsample="deconvolution").state_dict())
    assert {"model.1.weight", "model.10.conv_block.1.weight", "model.18.conv_block.5.weight", "model.19.weight"} <= keys
    assert {"model.26.weight", "model.26.bias"} <= keys


def test_resize_cannot_draw_a_grid_into_a_flat_sky_where_deconvolution_does() -> None:
    def relief(upsample: str) -> float:
        torch.manual_seed(0)
        generator = build_generator("resnet6", ngf=4, upsample=upsample).eval()
        with torch.no_grad():
            middle = generator(torch.full((1, 3, 320, 320), 0.3))[:, :, 152:168, 152:168]  # out of the border's reach
        return float((middle.amax((2, 3)) - middle.amin((2, 3))).max())

    assert relief("resize") < 1e-5
    assert relief("deconvolution") > 1e-2


def test_a_slope_enlarged_stays_a_slope_without_steps() -> None:
    enlarge = build_generator("resnet6", ngf=4, upsample="resize").model[16][0]  # type: ignore[index]
    assert isinstance(enlarge, torch.nn.Upsample)
    slope = torch.arange(16.0).expand(1, 1, 16, 16)
    steps = enlarge(slope)[0, 0, 8].diff()[2:-2]  # away from the border
    torch.testing.assert_close(steps, torch.full_like(steps, 0.5))


def test_each_score_of_the_discriminator_sees_70_pixels() -> None:
    torch.manual_seed(0)
    discriminator = build_discriminator("basic", 4)
    assert discriminator(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    for layer in discriminator.modules():  # instance norm looks at everything: without it, what is left is the reach
        if isinstance(layer, torch.nn.InstanceNorm2d):
            layer.forward = torch.nn.Identity().forward  # type: ignore[method-assign]
    image = torch.randn(1, 3, 256, 256, requires_grad=True)
    discriminator(image)[0, 0, 15, 15].backward()
    assert image.grad is not None
    rows = image.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 70


def test_reflection_pad_keeps_bf16_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        out = ReflectionPad(1)(torch.arange(12.0).reshape(1, 1, 3, 4).bfloat16())
    assert out.dtype == torch.bfloat16
    assert torch.equal(out.float(), torch.nn.functional.pad(torch.arange(12.0).reshape(1, 1, 3, 4), (1,) * 4, "reflect"))


def test_average_moves_by_its_share() -> None:
    average, current = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    expected = 0.9 * average.weight.detach() + 0.1 * current.weight.detach()
    update_average(average, current, 0.9)
    torch.testing.assert_close(average.weight.detach(), expected)
