"""Models that torch exported. With dynamic axes: the multiple is found. With a fixed size, torch's default: any size where they
are fully convolutional, their own where they are not.

The output at another size is compared with that of the module itself, which the check in `adopt` does not have.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.export.adopt import adopt
from cyclecast.export.adopt.free_size import is_same_network
from cyclecast.export.adopt.overrides import Overrides
from cyclecast.video.scene import Scene
from tests.conftest import shared
from tests.export.originals import output_of, psnr, resnet, unet, with_contrast
from tests.export.test_adopt import FRAMES, RGB, findings_of, styled

pytestmark = pytest.mark.usefixtures("without_trial")
LEAST_DB = 48
SIDE = 192  # pixels: the shortest that `is_same_network` repeats as a whole


def export_fixed(network: nn.Module, path: Path, height: int, width: int) -> Path:
    """Exports as torch does by default: every size in the file is a constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        settings: dict[str, Any] = {"dynamo": True, "opset_version": 18, "external_data": False, "verbose": False}
        torch.onnx.export(network.eval(), (torch.zeros(1, 3, height, width),), str(path), **settings)
    return path


@pytest.mark.parametrize(("downs", "norm"), [(7, "instance"), (8, "batch")])
def test_u_nets_of_pix2pix_with_dynamic_axes_are_padded_to_their_multiple(downs: int, norm: str, tmp_path: Path) -> None:
    network, path = with_contrast(unet(downs, 2, norm)), tmp_path / "t.onnx"
    axes = {2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter, which most files are from, is deprecated
        settings: dict[str, Any] = {"dynamo": False, "opset_version": 17, "input_names": ["x"], "output_names": ["y"]}
        example = torch.zeros(1, 3, 256, 256)
        torch.onnx.export(network, (example,), str(path), dynamic_axes={"x": axes, "y": axes}, **settings)
    found = findings_of(adopt(path, tmp_path / "o.onnx", FRAMES, RGB))
    assert found["multiple"][0] == str(2**downs)
    frame = Scene(512, 256).draw(1.0)
    assert psnr(styled(tmp_path / "o.onnx", frame), output_of(network, frame)) >= LEAST_DB
    assert styled(tmp_path / "o.onnx", Scene(131, 97).draw(0.0)).shape == (97, 131, 3)


class Around(nn.Module):
    """A ResNet, and something about the whole image that is added to its output."""

    def __init__(self, height: int = 0, width: int = 0) -> None:
        super().__init__()
        self.net = with_contrast(resnet(1, 4))
        self.place = nn.Parameter(torch.rand(1, 3, height // 8, width // 8) - 0.5)

    def whole(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.net(x) + self.whole(x))


class Attention(Around):
    """Attention between all cells of 8x8 pixels, without positions: any size, although the file reshapes to a fixed one."""

    def whole(self, x: Tensor) -> Tensor:
        cells = functional.avg_pool2d(x, 8)
        values = cells.flatten(2)  # (1, C, cells)
        shares = torch.softmax(3 * values.transpose(1, 2) @ values, -1)
        return functional.interpolate((values @ shares.transpose(1, 2)).reshape(cells.shape), scale_factor=8)


class Gate(Around):
    """A gain for each channel, from the mean of the image."""

    def whole(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(3 * x.mean((2, 3), keepdim=True))


class Gram(Around):
    """A Gram matrix, divided by the number of pixels, which is a constant in the file."""

    def whole(self, x: Tensor) -> Tensor:
        values = x.flatten(2)
        return (values @ values.transpose(1, 2) / values.shape[2] @ values).reshape(x.shape)


class Position(Around):
    """A position embedding, resized to the image."""

    def whole(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.place, size=x.shape[2:], mode="bilinear")


class Coordinates(Around):
    """The columns' coordinates from -1 to 1."""

    def whole(self, x: Tensor) -> Tensor:
        return torch.linspace(-1, 1, x.shape[3]).expand_as(x)


class SummedNorm(nn.Module):
    """Instance norm written with sums, divided by the number of pixels, which is a constant in the file."""

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.shape[2] * x.shape[3]
        centered = x - x.sum((2, 3), keepdim=True) / pixels
        return centered / (centered.square().sum((2, 3), keepdim=True) / pixels + 1e-5).sqrt()


class AveragedNorm(nn.Module):
    """The same with means."""

    def forward(self, x: Tensor) -> Tensor:
        centered = x - x.mean((2, 3), keepdim=True)
        return centered / (centered.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


def with_norm(network: nn.Module, norm: type[nn.Module]) -> nn.Module:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm2d):
                setattr(module, name, norm())
    return network


CONVOLUTIONAL: dict[str, Callable[[], nn.Module]] = {
    "resnet-instance": lambda: with_contrast(resnet(6, 4)),
    "resnet-resize": lambda: with_contrast(resnet(1, 4, up="bilinear")),
    "norm-of-means": lambda: with_norm(with_contrast(resnet(1, 4)), AveragedNorm),
    "unet-instance": lambda: with_contrast(unet(7, 4, "instance")),
    "unet-batch": lambda: with_contrast(unet(8, 4)),
    "attention": Attention,
    "gate": Gate,
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "norm-of-sums": lambda: with_norm(with_contrast(resnet(1, 4)), SummedNorm),
    "gram": Gram,
    "position": lambda: Position(SIDE, SIDE),
    "coordinates": Coordinates,
}


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_a_fully_convolutional_file_has_the_modules_output_at_other_sizes(name: str, tmp_path: Path) -> None:
    network, side = CONVOLUTIONAL[name]().eval(), 256 if name.startswith("unet") else SIDE
    path = export_fixed(network, tmp_path / "t.onnx", side, side)
    overrides = Overrides(color="rgb", range="-1..1", output_range="-1..1")
    adopted = adopt(path, tmp_path / "o.onnx", FRAMES, overrides, check=False)  # the check is weaker than what follows
    assert findings_of(adopted)["size"][0] == "any"
    for size in ((side, side), (2 * side, side), (side, 3 * side)):
        frame = Scene(*size).draw(1.0)
        expected = output_of(network, frame)
        assert expected.std() > 15 and psnr(styled(tmp_path / "o.onnx", frame), expected) >= LEAST_DB


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_that_holds_its_size_in_another_way_keeps_it(name: str, tmp_path: Path) -> None:
    path = export_fixed(OTHERS[name](), tmp_path / "t.onnx", SIDE, SIDE)
    overrides = Overrides(color="rgb", range="-1..1", output_range="-1..1")
    adopted = adopt(path, tmp_path / "o.onnx", FRAMES, overrides)
    assert findings_of(adopted)["size"][0] == f"{SIDE}x{SIDE}" and all(a.max_abs <= 1 for a in adopted.agreements)
    assert styled(tmp_path / "o.onnx", Scene(320, 180).draw(1.0)).shape == (180, 320, 3)


def test_an_output_of_nan_or_of_another_size_is_not_the_same_network() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)

    def identity(x: Any) -> Any:
        return x

    assert is_same_network(identity, identity, x, "nchw")
    assert is_same_network(lambda x: x.transpose(0, 2, 3, 1), lambda x: x.transpose(0, 2, 3, 1), x, "nhwc")
    assert not is_same_network(identity, lambda x: x if x.shape == (1, 3, 64, 64) else x * np.nan, x, "nchw")
    assert not is_same_network(identity, lambda x: x[..., :64, :64], x, "nchw")
    assert not is_same_network(
        identity, lambda x: x + x.sum(3, keepdims=True) / 64 - x[..., :64].mean(3, keepdims=True), x, "nchw"
    )
    assert not is_same_network(
        identity, lambda x: x + x.sum(2, keepdims=True) / 64 - x[:, :, :64].mean(2, keepdims=True), x, "nchw"
    )


def test_a_published_style_network_keeps_its_size_on_request(tmp_path: Path) -> None:
    """test_adopt.py frees and checks a network of the same architecture."""
    path, frame = shared("models/winml_fns/candy.onnx"), Scene(160, 90).draw(0.0)
    adopted = adopt(path, tmp_path / "o.onnx", [frame], Overrides(keep_size=True), check=False)
    found = findings_of(adopted)
    assert (found["size"][0], found["color"][0], found["range"][0]) == ("720x720", "bgr", "0..255")
    output = styled(tmp_path / "o.onnx", frame)
    assert output.shape == frame.shape and output.std() > 30
