"""DCGAN (Radford et al. 2015): GAN's game between convolutional networks."""

from __future__ import annotations

from dataclasses import dataclass

from cyclecast.training.networks.latent import ConvDiscriminator
from cyclecast.training.networks.layers import initialize
from cyclecast.training.recipes.gan import Gan, GanConfig
from cyclecast.training.recipes.latent import ConvConfig


@dataclass(frozen=True, kw_only=True)
class DcganConfig(GanConfig):
    """The settings of DCGAN. The defaults are the paper's, except for `upsample`."""

    networks: ConvConfig = ConvConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.networks.architecture(self)


class Dcgan(Gan):
    """Strided convolutions down, upsampling convolutions up, batch norm except at the ends."""

    Config = DcganConfig
    config: DcganConfig

    def __init__(self, config: DcganConfig) -> None:
        discriminator = initialize(ConvDiscriminator(**config.shape(), ndf=config.networks.ndf))
        self._build(config, config.networks.architecture(config), discriminator)
