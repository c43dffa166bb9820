"""DCGAN (Radford et al. 2015): GAN's game between convolutional networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cyclecast.training.networks.latent import ConvDiscriminator, is_dcgan_size
from cyclecast.training.networks.layers import Upsample, initialize
from cyclecast.training.recipes.gan import Gan, GanConfig


@dataclass(frozen=True, kw_only=True)
class DcganConfig(GanConfig):
    """The paper's defaults, but for the way up."""

    ngf: int = 64
    """Generator's channels at full resolution."""
    ndf: int = 64
    """Discriminator's channels after its first layer."""
    upsample: Upsample = "resize"
    """resize (enlarge, then convolve), nearest (likewise), deconvolution (the paper's transposed convolution) or pixelshuffle."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("ngf", "ndf"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("image_size", is_dcgan_size(self.image_size), "4 to 7, doubled: 8, 16, 28, 32, 64, …")


class Dcgan(Gan):
    """Strided convolutions down, enlarging ones up, batch norm but at the ends."""

    Config = DcganConfig
    config: DcganConfig

    def __init__(self, config: DcganConfig) -> None:
        shape: dict[str, Any] = {"image_size": config.image_size, "channels": config.channels}
        architecture = {"generator": "conv", "latent": config.latent, **shape, "ngf": config.ngf, "upsample": config.upsample}
        self._build(config, architecture, initialize(ConvDiscriminator(**shape, ndf=config.ndf)))
