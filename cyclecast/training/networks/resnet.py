"""The ResNet generator (Johnson et al. 2016; CycleGAN, appendix 7.2)."""

from __future__ import annotations

from torch import Tensor, nn

from cyclecast.training.networks.layers import ReflectionPad, Upsample, double, norm


class ResnetBlock(nn.Module):
    """x + conv(relu(norm(conv(x)))), reflection padded."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            ReflectionPad(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            norm(channels),
            nn.ReLU(inplace=True),
            ReflectionPad(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv_block(x)
        return out


class ResnetGenerator(nn.Module):
    """c7s1-n, d2n, d4n, `blocks` x R4n, u2n, un, c7s1-3 of the paper.

    ngf: channels at full resolution (the paper: 64). blocks: 9 for 256x256 and above, 6 for 128x128. skip (not in the
    paper): the network makes what is added to its input. Instance norm forgets the colour of a flat crop; the skip does not.
    Its output can leave [-1, 1], to be clamped.
    """

    stride = 4

    def __init__(self, blocks: int = 9, ngf: int = 64, upsample: Upsample = "deconvolution", skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        layers: list[nn.Module] = [
            ReflectionPad(3),
            nn.Conv2d(3, ngf, 7, bias=False),
            norm(ngf),
            nn.ReLU(inplace=True),
        ]
        for channels in (ngf, 2 * ngf):
            layers += [
                nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False),
                norm(2 * channels),
                nn.ReLU(inplace=True),
            ]
        layers += [ResnetBlock(4 * ngf) for _ in range(blocks)]
        for channels in (4 * ngf, 2 * ngf):
            layers += [double(channels, channels // 2, upsample), norm(channels // 2), nn.ReLU(inplace=True)]
        layers += [ReflectionPad(3), nn.Conv2d(ngf, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)  # (N, 3, H, W) in [-1, 1]
        return x + out if self.skip else out
