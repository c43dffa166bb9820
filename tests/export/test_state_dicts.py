"""Reads generators of pytorch-CycleGAN-and-pix2pix, and compares their output with that project's networks."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.checkpoints import TrainedGenerator, read_generator
from cyclecast.export.onnx import export_onnx
from cyclecast.export.state_dicts import Overrides
from cyclecast.runtime.engines import open_engine
from cyclecast.spec import ModelSpec
from cyclecast.training.networks import build_generator
from tests.commands import run_command
from tests.conftest import moving_frames
from tests.export.originals import Net, assert_same_output, resnet, saved, unet, with_contrast

REPOSITORY = "pytorch-CycleGAN-and-pix2pix"


@pytest.mark.parametrize("bias", [False, True], ids=["bare", "biases"])
@pytest.mark.parametrize("dropout", [False, True], ids=["", "dropout"])
@pytest.mark.parametrize("up", ["deconvolution", "bilinear", "nearest"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize(("blocks", "ngf"), [(1, 3), (6, 4), (9, 2)])
def test_a_resnet_is_read_off_its_keys(
    blocks: int, ngf: int, norm: str, up: str, dropout: bool, bias: bool, tmp_path: Path
) -> None:
    original = with_contrast(resnet(blocks, ngf, norm, up, dropout, bias))
    overrides = explicit(norm, bias, upsample="nearest" if up == "nearest" else None)
    trained = read_generator(saved(original, tmp_path / "latest_net_G.pth"), overrides=overrides)
    upsample = {"deconvolution": "deconvolution", "bilinear": "resize", "nearest": "nearest"}[up]
    assert trained.architecture == {"generator": "resnet", "blocks": blocks, "ngf": ngf, "upsample": upsample, "norm": norm}
    assert_same_output(original, trained, 48)


@pytest.mark.parametrize("bias", [False, True], ids=["bare", "biases"])
@pytest.mark.parametrize("dropout", [False, True], ids=["", "dropout"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize(("downs", "ngf"), [(5, 3), (7, 4), (8, 2)])
def test_a_unet_is_read_off_its_keys(downs: int, ngf: int, norm: str, dropout: bool, bias: bool, tmp_path: Path) -> None:
    original = with_contrast(unet(downs, ngf, norm, dropout, bias))
    trained = read_generator(saved(original, tmp_path / "latest_net_G.pth"), overrides=explicit(norm, bias))
    assert trained.architecture == {"generator": "unet", "downs": downs, "ngf": ngf, "upsample": "deconvolution", "norm": norm}
    assert_same_output(original, trained, 256)


def test_the_originals_put_together_here_have_the_published_sizes() -> None:
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in net.parameters()) for net in (resnet(9, 64), unet(8, 64), unet(7, 64))]
    assert sizes == [11_378_179, 54_413_955, 41_828_995]  # the project prints 11.378 M, 54.414 M, 41.829 M


def test_wrapped_names_half_precision_and_old_statistics_change_nothing(tmp_path: Path) -> None:
    original = with_contrast(resnet(2, 3))
    state: dict[str, Tensor] = {f"module.{key}": value for key, value in original.state_dict().items()}
    for layer, channels in (("2", 3), ("10.conv_block.2", 12), ("11.conv_block.6", 12)):
        state |= {f"module.model.{layer}.running_{name}": torch.rand(channels) for name in ("mean", "var")}
        state[f"module.model.{layer}.num_batches_tracked"] = torch.tensor(7)
    torch.save(state, tmp_path / "old.pth")
    trained = read_generator(tmp_path / "old.pth")
    assert trained.architecture["norm"] == "instance"
    assert_same_output(original, trained, 48)

    halved = original.half()
    torch.save(nn.DataParallel(halved).state_dict(), tmp_path / "half.pth", _use_new_zipfile_serialization=False)
    assert_same_output(halved.float(), read_generator(tmp_path / "half.pth"), 48)


def test_a_batch_norm_from_before_it_counted_batches(tmp_path: Path) -> None:
    original = with_contrast(unet(5, 2))
    overrides = Overrides(batch_norm="running")
    state = original.state_dict()
    torch.save({key: state[key] for key in state if not key.endswith("num_batches_tracked")}, tmp_path / "old.pth")
    assert_same_output(original, read_generator(tmp_path / "old.pth", overrides=overrides), 64)


@pytest.mark.parametrize(
    ("original", "biased"),
    [
        (resnet(6, 3), [17]),
        (resnet(4, 3, "batch", bias=True), [13]),
        (unet(6, 2, "instance"), [0, 5, 11]),
        (unet(6, 2), [0, 5, 11]),
    ],
    ids=["resnet", "resnet-batch", "unet", "unet-batch"],
)
def test_only_convolutions_without_a_norm_keep_a_bias(original: Net, biased: list[int], tmp_path: Path) -> None:
    """In fp16 a large bias that a norm cancels costs precision. A U-Net has no norm at its ends and after its innermost layer."""
    overrides = Overrides(batch_norm="running" if any(isinstance(m, nn.BatchNorm2d) for m in original.modules()) else None)
    network = read_generator(saved(with_contrast(original), tmp_path / "g.pth"), overrides=overrides).network
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert [index for index, layer in enumerate(convolutions) if layer.bias is not None] == biased


@pytest.mark.parametrize(
    ("name", "override", "direction"),
    [
        ("latest_net_G_A.pth", None, "a2b"),
        ("200_net_G_B.pth", None, "b2a"),
        ("latest_net_G.pth", None, "a2b"),
        ("latest_net_G_A.pth", "b2a", "b2a"),
    ],
)
def test_the_direction_comes_from_the_file_name(name: str, override: str | None, direction: str, tmp_path: Path) -> None:
    path = saved(resnet(1, 1), tmp_path / name)
    trained = read_generator(path, override)
    assert (trained.recipe, trained.direction, trained.steps, trained.frames) == (REPOSITORY, direction, 0, [])
    with pytest.raises(ConfigError, match=r"net_G.*: direction must be a2b or b2a, got 'sample'"):
        read_generator(path, "sample")


def test_the_architecture_rebuilds_the_network(tmp_path: Path) -> None:
    for original, upsample in ((resnet(4, 2, "batch", "nearest"), "nearest"), (unet(6, 2), None)):
        overrides = Overrides(upsample=upsample, batch_norm="running")
        trained = read_generator(saved(with_contrast(original), tmp_path / "g.pth"), overrides=overrides)
        again = build_generator(**json.loads(json.dumps(trained.architecture))).eval()
        again.load_state_dict(trained.network.state_dict())
        assert_same_output(original, TrainedGenerator(again, "", "", {}, 0, []), 64)


def test_upsample_applies_to_resize_convolutions_only(run: Path, tmp_path: Path) -> None:
    for original in (resnet(1, 1), unet(5, 1)):
        with pytest.raises(ConfigError, match="upsample is for resize-convolutions, but this generator has none"):
            read_generator(saved(original, tmp_path / "g.pth"), overrides=Overrides(upsample="nearest"))
    with pytest.raises(ConfigError, match="upsample must be bilinear or nearest, got 'cubic'"):
        read_generator(saved(resnet(1, 1, up="bilinear"), tmp_path / "g.pth"), overrides=Overrides(upsample="cubic"))
    with pytest.raises(ConfigError, match="a cyclecast checkpoint records its generators: leave upsample and gray out"):
        read_generator(run, overrides=Overrides(upsample="nearest", gray="mean"))


def explicit(norm: str, bias: bool, upsample: str | None = None) -> Overrides:
    """Returns what the keys do not show, so that networks are compared as they are: batch norm in eval mode, unseen norms."""
    return Overrides(
        norm="instance" if norm == "instance" and not bias else None,
        batch_norm="running" if norm == "batch" else None,
        upsample=upsample,
    )


class CodeInPickle:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_that_runs_code_is_rejected_with_the_reason(zipped: bool, tmp_path: Path) -> None:
    path, folder = tmp_path / "latest_net_G.pth", tmp_path / "folder"
    torch.save(resnet(1, 1).state_dict() | {"x": CodeInPickle(folder)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"latest_net_G.pth: .* wants to run code \(posix.mkdir\), expected tensors"):
        read_generator(path)
    path.write_bytes(pickle.dumps(CodeInPickle(folder)))  # not even torch's format
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        read_generator(path)
    assert not folder.exists()


def test_a_pickled_module_is_rejected(tmp_path: Path) -> None:
    torch.save(resnet(1, 1), tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"wants to run code \(tests.*Net\), .*; save a state_dict\(\)"):
        read_generator(tmp_path / "net.pth")


def discriminator(*widths: int) -> Net:
    """Builds the convolutions of that project's PatchGAN, without norms."""
    layers = [nn.Conv2d(*pair, 4) for pair in zip((3, *widths), (*widths, 1), strict=True)]
    return Net(*layers)


def changed(network: nn.Module, **tensors: Tensor | None) -> dict[str, Any]:
    """Returns the network's state dict with some tensors replaced, or left out (None). Write `__` for dots in their names."""
    state = network.state_dict() | {key.replace("__", "."): value for key, value in tensors.items()}
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (discriminator(8, 16).state_dict(), "a discriminator (model.0.weight is 8x3x4x4), expected a generator"),
        (nn.Linear(2, 2).state_dict(), "holds weight, bias, expected a generator of pytorch-CycleGAN-and-pix2pix"),
        ({f"layer{i}": torch.zeros(1) for i in range(9)}, "holds layer0, layer1, layer2 and 6 more, expected"),
        ({"epoch": 3, "net": {}}, "holds epoch, net, expected a generator of pytorch-CycleGAN-and-pix2pix"),
        ({}, "holds nothing, expected a generator"),
        ([torch.zeros(1)], "holds a list, expected a generator's state dict"),
        (resnet(2, 4).half().state_dict() | {"model.12.weight": torch.zeros(1)}, "model.12.weight is 1, expected 16x8x3x3 in"),
        (changed(resnet(2, 4), model__19__bias=torch.zeros(5)), "model.19.bias is 5, expected 3 in generator resnet, blocks 2"),
        (changed(resnet(2, 4), model__7__weight=None), "has no model.7.weight, expected in generator resnet, blocks 2, ngf 4"),
        (changed(resnet(2, 4), model__1__weight=None), "has no convolution model.1.weight"),
        (changed(resnet(2, 4), model__2__weight=torch.ones(4)), "has no model.2.bias, expected in generator resnet"),
        (changed(resnet(2, 4), model__1__weight=torch.zeros(4, 3, 5, 5)), "model.1.weight is 4x3x5x5, expected 4x3x7x7"),
        (changed(resnet(2, 4, "batch"), model__5__bias=None), "has no model.5.bias, expected in"),
        (
            changed(unet(5, 2), model__model__3__bias=None, extra=torch.zeros(1)),
            "holds extra, not expected in generator unet",
        ),
        ({"model.model.0.weight": torch.zeros(2, 3, 4, 4)}, "a U-Net of 1 halvings, expected 5 or more"),
    ],
)
def test_other_state_dicts_are_rejected_with_the_reason(state: Any, reason: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "latest_net_D.pth")
    with pytest.raises(ModelError) as caught:
        read_generator(tmp_path / "latest_net_D.pth")
    assert f"latest_net_D.pth: {reason}" in str(caught.value) and "\n" not in str(caught.value)


def test_zero_padding_shows_in_the_keys_and_is_rejected(tmp_path: Path) -> None:
    state = resnet(1, 2).state_dict()
    moved = {key.replace("conv_block.1.", "conv_block.0.").replace("conv_block.5.", "conv_block.3."): state[key] for key in state}
    torch.save(moved, tmp_path / "g.pth")
    with pytest.raises(ModelError, match=r"has no model.10.conv_block.1.weight, expected in generator resnet"):
        read_generator(tmp_path / "g.pth")


def test_damaged_files_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "garbage.pth").write_bytes(bytes(range(256)) * 9)
    cut = saved(resnet(1, 1), tmp_path / "cut.pth")
    cut.write_bytes(cut.read_bytes()[:2000])
    for path in (tmp_path / "garbage.pth", cut):
        with pytest.raises(
            ModelError, match=rf"{path.name}: cannot be read as a checkpoint \(\w+\): expected what torch.save writes"
        ):
            read_generator(path)


FAMILIES = {  # the others are read as the networks that test_verify.py exports
    "resnet-nearest-batch": (resnet(1, 4, "batch", "nearest", bias=True), "nearest"),
    "unet-batch": (unet(6, 4, dropout=True), None),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_exported_file_agrees_with_the_original_network(family: str, tmp_path: Path) -> None:
    original, upsample = with_contrast(FAMILIES[family][0]), FAMILIES[family][1]
    overrides = Overrides(upsample=upsample, batch_norm="running" if "batch" in family else None)
    trained = read_generator(saved(original, tmp_path / "latest_net_G_B.pth"), overrides=overrides)
    export_onnx(trained, tmp_path / "m.onnx", size=(128, 64), check=False)
    engine = open_engine(tmp_path / "m.onnx", "onnxruntime", "cpu", "fp32")
    for frame in moving_frames(2, 128, 64):
        rgb = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.no_grad():
            expected = ((original(rgb)[0] + 1) * 127.5).permute(1, 2, 0).numpy()[..., ::-1].round()
        assert expected.std() > 10
        assert np.abs(engine.run(frame) - expected).max() <= 1
    spec = ModelSpec.from_json(engine.metadata or "")
    assert (spec.recipe, spec.direction, spec.steps, spec.architecture) == (REPOSITORY, "b2a", 0, trained.architecture)


def test_export_of_a_state_dict_needs_frames_to_check_on(tmp_path: Path) -> None:
    trained = read_generator(saved(resnet(1, 2), tmp_path / "g.pth"))
    with pytest.raises(ConfigError, match="no frame to compare the model on"):
        export_onnx(trained, tmp_path / "m.onnx", size=(64, 48))
    assert not (tmp_path / "m.onnx").exists()


def test_the_command_checks_a_state_dict_on_the_demo_scene(tmp_path: Path) -> None:
    path = saved(with_contrast(resnet(1, 2, up="bilinear")), tmp_path / "latest_net_G_B.pth")
    done = run_command("export", path, "-o", tmp_path / "m.onnx", "--size", "64x48", "--json")
    assert done.returncode == 0, done.stderr
    assert [(report["frames"], report["passed"]) for report in json.loads(done.stdout)["verified"]] == [(3, True)]
    assert "latest_net_G_B.pth: b2a, generator resnet, blocks 1, ngf 2, upsample resize, norm instance\n" in done.stderr
    assert re.search(r"upsample +│ bilinear │ assumed", done.stderr) and "--upsample nearest" in done.stderr
