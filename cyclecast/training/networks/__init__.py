"""Generators and discriminators, laid out so that the keys of their state dicts are those of pytorch-CycleGAN-and-pix2pix.

An image generator maps (N, 3, H, W) float in [-1, 1], RGB, to the same; H and W multiples of its `stride`. Of what it makes
the outermost `margin` pixels are not to be shown. A latent generator maps (N, Z), Z its `latent`, to (N, C, S, S).
Convolutions that a norm follows have no bias, the others have one: the norm subtracts it, and a large one costs precision in
fp16 and bf16.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

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
LATENT_GENERATORS: dict[str, Callable[..., LatentGenerator]] = {"mlp": MlpGenerator, "conv": ConvGenerator}


def build_generator(generator: str, **settings: Any) -> ImageGenerator:
    """The image generator of this name with fresh weights; settings: its constructor's, as a checkpoint's `exports` hold them."""
    return initialize(IMAGE_GENERATORS[generator](**settings))


def build_latent_generator(generator: str, **settings: Any) -> LatentGenerator:
    """The same for a latent generator."""
    return initialize(LATENT_GENERATORS[generator](**settings))


__all__ = [
    "IMAGE_GENERATORS",
    "LATENT_GENERATORS",
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
