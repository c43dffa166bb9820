"""Generators and discriminators, laid out so that the keys of their state dicts are those of pytorch-CycleGAN-and-pix2pix.

An image generator maps (N, 3, H, W) float in [-1, 1], RGB, to the same shape; H and W must be multiples of its `stride`. Another
project's can have one channel, gray, on either side (`in_channels`, `out_channels`). The outermost `margin` pixels of its output
are not valid. A latent generator maps (N, Z), Z its `latent`, to (N, C, S, S).

A convolution has a bias unless a norm follows, which would subtract it; a large bias costs precision in fp16 and bf16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from cyclecast.training.networks.frame import FrameGenerator
from cyclecast.training.networks.latent import ConvGenerator, MlpGenerator
from cyclecast.training.networks.layers import initialize
from cyclecast.training.networks.resnet import ResnetGenerator
from cyclecast.training.networks.unet import UnetGenerator

ImageGenerator = ResnetGenerator | UnetGenerator | FrameGenerator
LatentGenerator = MlpGenerator | ConvGenerator

IMAGE_GENERATORS: dict[str, Callable[..., ImageGenerator]] = {
    "resnet": ResnetGenerator,
    "resnet6": partial(ResnetGenerator, 6),
    "resnet9": partial(ResnetGenerator, 9),
    "unet": UnetGenerator,
    "unet32": partial(UnetGenerator, 5),
    "unet128": partial(UnetGenerator, 7),
    "unet256": partial(UnetGenerator, 8),
    "frame": FrameGenerator,
}
SETTINGS_KEY = "cyclecast"
LATENT_GENERATORS: dict[str, Callable[..., LatentGenerator]] = {"mlp": MlpGenerator, "conv": ConvGenerator}


def build_generator(generator: str, **settings: Any) -> ImageGenerator:
    """Builds the image generator of this name with initial weights.

    settings: its constructor's arguments, as a checkpoint's `exports` store them. Its state dict records them beside the
    versions that torch records of each module, under `SETTINGS_KEY`, and torch.save keeps them.
    """
    network = initialize(IMAGE_GENERATORS[generator](**settings))
    record = partial(_record_settings, settings={"generator": generator, **settings})
    network.register_state_dict_post_hook(record)  # type: ignore[no-untyped-call]
    return network


def _record_settings(
    network: nn.Module, state: Mapping[str, Any], prefix: str, metadata: dict[str, Any], settings: dict[str, Any]
) -> None:
    metadata[SETTINGS_KEY] = settings


def build_latent_generator(generator: str, **settings: Any) -> LatentGenerator:
    """Builds the latent generator of this name with initial weights; settings: its constructor's arguments."""
    return initialize(LATENT_GENERATORS[generator](**settings))


__all__ = [
    "IMAGE_GENERATORS",
    "LATENT_GENERATORS",
    "SETTINGS_KEY",
    "ConvGenerator",
    "FrameGenerator",
    "ImageGenerator",
    "LatentGenerator",
    "MlpGenerator",
    "ResnetGenerator",
    "UnetGenerator",
    "build_generator",
    "build_latent_generator",
]
