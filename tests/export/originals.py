"""References for exported models: the generators of pytorch-CycleGAN-and-pix2pix, CUT, pix2pixHD and PyTorch-GAN.

They are written anew with the same modules, in the same order, in place where those projects work in place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.export.checkpoints import TrainedGenerator
from cyclecast.export.verify import Reference
from cyclecast.training.networks import ImageGenerator
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "instance": nn.InstanceNorm2d,
    "batch": nn.BatchNorm2d,
    "none": lambda width: nn.Identity(),
}


class Net(nn.Module):
    """One module, or several in a row, under the name `model`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.model: Any = nn.Sequential(*layers) if layers[1:] else layers[0]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


class Beside(Net):
    """A U-Net's level: concatenates its input, which the layers have changed in place, with their output."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.model(x)], 1)


class Block(nn.Module):
    """A ResNet's block."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv_block(x)
        return out


class Blur(nn.Module):
    """CUT's low-pass filter before every second pixel (3 taps), or after zeros between the pixels (4 taps)."""

    filt: Tensor

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0] if taps == 3 else [1.0, 3.0, 3.0, 1.0])
        square = row[:, None] * row[None, :]
        gain = 1 if taps == 3 else 4  # three of four pixels are zero
        self.register_buffer("filt", (gain * square / square.sum())[None, None].repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        if self.filt.shape[3] == 3:
            return functional.conv2d(functional.pad(x, [1] * 4, mode="reflect"), self.filt, stride=2, groups=channels)
        padded = functional.pad(x, [1] * 4, mode="replicate")
        return functional.conv_transpose2d(padded, self.filt, stride=2, padding=2, groups=channels)[:, :, 1:-1, 1:-1]


def resnet(
    blocks: int,
    ngf: int,
    norm: str = "instance",
    up: str = "deconvolution",
    dropout: bool = False,
    bias: bool | None = None,
    blur_down: bool = False,
    channels: tuple[int, int] = (3, 3),
    halvings: int = 2,
) -> Net:
    """Builds a ResNet. up: deconvolution, blur (CUT), or an Upsample's mode. bias: None as that project has it, by norm.

    blur_down: CUT's low-pass filters on the way down. channels: of the input and of the output. halvings: 3 or 4 in pix2pixHD.
    """
    widths = [ngf * 2**index for index in range(halvings + 1)]
    bias, normed = norm == "instance" if bias is None else bias, NORMS[norm]

    def half(width: int) -> list[nn.Module]:
        return [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), normed(width)]

    def way_up(width: int) -> list[nn.Module]:
        if up == "deconvolution":
            return [nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=bias)]
        if up == "blur":
            return [Blur(width, 4), nn.Conv2d(width, width // 2, 3, padding=1, bias=bias)]
        return [nn.Upsample(scale_factor=2, mode=up), nn.ReflectionPad2d(1), nn.Conv2d(width, width // 2, 3, bias=bias)]

    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels[0], ngf, 7, bias=bias), normed(ngf), nn.ReLU(True)]
    for width in widths[:-1]:
        stride = 1 if blur_down else 2
        layers += [nn.Conv2d(width, 2 * width, 3, stride=stride, padding=1, bias=bias), normed(2 * width), nn.ReLU(True)]
        layers += [Blur(2 * width, 3)] if blur_down else []
    dropped = [nn.Dropout(0.5)] if dropout else []
    layers += [Block(*half(widths[-1]), nn.ReLU(True), *dropped, *half(widths[-1])) for _ in range(blocks)]
    for width in widths[:0:-1]:
        layers += [*way_up(width), normed(width // 2), nn.ReLU(True)]
    return Net(*layers, nn.ReflectionPad2d(3), nn.Conv2d(ngf, channels[1], 7), nn.Tanh())


class GanBlock(nn.Module):
    """A block of PyTorch-GAN's CycleGAN, under another name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = (nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width))
        other = (nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width))
        self.block = nn.Sequential(*half, nn.ReLU(True), *other)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.block(x)
        return out


def pytorch_gan(blocks: int, ngf: int, channels: int = 3, mode: str = "nearest") -> Net:
    """Builds PyTorch-GAN's CycleGAN generator: its outer padding is the number of channels. mode: of its Upsample."""

    def normed(width: int) -> list[nn.Module]:
        return [nn.InstanceNorm2d(width), nn.ReLU(True)]

    layers: list[nn.Module] = [nn.ReflectionPad2d(channels), nn.Conv2d(channels, ngf, 7), *normed(ngf)]
    for width in (ngf, 2 * ngf):
        layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), *normed(2 * width)]
    layers += [GanBlock(4 * ngf) for _ in range(blocks)]
    for width in (4 * ngf, 2 * ngf):
        layers += [nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(width, width // 2, 3, padding=1), *normed(width // 2)]
    return Net(*layers, nn.ReflectionPad2d(channels), nn.Conv2d(ngf, channels, 7), nn.Tanh())


def unet(
    downs: int,
    ngf: int,
    norm: str = "batch",
    dropout: bool = False,
    bias: bool | None = None,
    channels: tuple[int, int] = (3, 3),
) -> Net:
    """Builds a U-Net. bias, channels: as above; the last convolution always has a bias."""
    bias, normed = norm == "instance" if bias is None else bias, NORMS[norm]

    def down(width: int, to: int) -> nn.Module:
        return nn.Conv2d(width, to, 4, stride=2, padding=1, bias=bias)

    def up(width: int, to: int, bias: bool = bias) -> nn.Module:
        return nn.ConvTranspose2d(width, to, 4, stride=2, padding=1, bias=bias)

    def leaky() -> nn.Module:
        return nn.LeakyReLU(0.2, True)

    widest = 8 * ngf
    level = Beside(leaky(), down(widest, widest), nn.ReLU(True), up(widest, widest), normed(widest))
    widths = [widest] * (downs - 5) + [4 * ngf, 2 * ngf, ngf]
    for index, width in enumerate(widths):
        inner = min(2 * width, widest)
        dropped = [nn.Dropout(0.5)] if dropout and index < downs - 5 else []
        layers = [leaky(), down(width, inner), normed(inner), level, nn.ReLU(True), up(2 * inner, width), normed(width)]
        level = Beside(*layers, *dropped)
    return Net(Net(down(channels[0], ngf), level, nn.ReLU(True), up(2 * ngf, channels[1], True), nn.Tanh()))


@torch.no_grad()
def with_contrast(network: Net, seed: int = 0) -> Net:
    """Sets random weights, biases and running statistics so that outputs have contrast and do not saturate; eval mode."""
    draw = torch.Generator().manual_seed(seed)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            reach = layer.weight[0, 0].numel() / (4 if isinstance(layer, nn.ConvTranspose2d) else 1)
            layer.weight.normal_(0, (2 / (reach * layer.in_channels)) ** 0.5, generator=draw)
            if layer.bias is not None:
                layer.bias.normal_(0, 0.3, generator=draw)
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.weight.uniform_(0.7, 1.3, generator=draw)
            layer.bias.normal_(0, 0.3, generator=draw)
            layer.running_mean.normal_(0, 0.3, generator=draw)
            layer.running_var.uniform_(0.5, 1.5, generator=draw)
    row: Any = network.eval().model
    *others, last, _ = row.model if isinstance(row, Net) else row
    output = last(nn.Sequential(*others)(noise(256, convolutions[0].in_channels)))
    last.weight.mul_(0.5 / output.std())
    shift = torch.tensor([-0.1, 0.0, 0.2])[: len(last.bias)]
    last.bias.sub_(output.mean((0, 2, 3))).mul_(0.5 / output.std()).add_(shift)
    return network


def noise(side: int, channels: int = 3) -> Tensor:
    """Returns (1, channels, side, side) in [-1, 1]."""
    return torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def saved(network: nn.Module, path: Path, keys_only: bool = False) -> Path:
    """Saves the state dict. keys_only: without what torch records of the modules, as after a program rebuilt the dict."""
    state = network.state_dict()
    torch.save(dict(state) if keys_only else state, path)
    return path


def assert_same_output(original: Net, trained: TrainedGenerator, side: int) -> None:
    """Compares the outputs, in [-1, 1], to within 1e-4, and checks that they have contrast."""
    with torch.no_grad():
        expected, got = original(noise(side)), trained.network(noise(side))
    assert expected.std() > 0.1 and (expected.abs() < 0.98).float().mean() > 0.9
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def output_of(original: nn.Module, frame: Image) -> Image:
    """Computes the project's own output: (H, W, 3) uint8 BGR -> the same; gray images as its loader (PIL) converts them."""
    inputs = next(layer for layer in original.modules() if isinstance(layer, nn.Conv2d)).in_channels
    image = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)[..., None] if inputs == 1 else frame[..., ::-1]
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        y = original(x)[0].expand(3, -1, -1)  # RGB
    levels: Image = ((y + 1) * 127.5).permute(1, 2, 0).flip(2).round().byte().numpy()
    return levels


def psnr(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Computes the PSNR in dB."""
    return cv2.PSNR(one, other)


def frame_options(folder: Path) -> tuple[object, ...]:
    """Writes an image of 320x180, and returns the options of `verify` for it: drawing the demo's frames takes longer."""
    cv2.imwrite(str(folder / "frame.png"), Scene(320, 180).draw(1.0))
    return ("--frames", folder / "frame.png")


class CachedReference(Reference):
    """Computes each frame once, for the comparisons of several engines with it."""

    def __init__(self, network: ImageGenerator) -> None:
        super().__init__(network)
        self._outputs: dict[bytes, Image] = {}

    def run(self, frame: Image) -> Image:
        key = str(frame.shape).encode() + frame.tobytes()
        if key not in self._outputs:
            self._outputs[key] = super().run(frame)
        return self._outputs[key]
