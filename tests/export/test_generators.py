"""Generators of other projects that once had another output, or none: without norms, of CUT, in gray, with batch norm.

Their outputs are compared with those of the original networks.
"""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.block_graph import frame_graph
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.onnx import export_onnx
from cyclecast.export.state_dicts import Overrides
from cyclecast.export.torch_engine import TorchEngine
from cyclecast.export.verify import verify
from cyclecast.runtime.engines import open_engine
from cyclecast.training.networks import LatentGenerator, ResnetGenerator
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene
from tests.commands import json_of, run_command
from tests.conftest import shared
from tests.export.originals import Net, frame_options, output_of, psnr, resnet, saved, unet, with_contrast

LEAST_DB = 48


@torch.no_grad()
def styled(path: Path, frame: Image, overrides: Overrides | None = None) -> Image:
    """Computes the output of the graph that export writes."""
    network = read_generator(path, overrides=overrides).network
    assert not isinstance(network, LatentGenerator)
    output: Image = frame_graph(network)(torch.from_numpy(frame)[None])[0].numpy()
    return output


def frame_for(original: Net) -> Image:
    side = 256 if isinstance(original.model, Net) else 96  # a U-Net pads other sizes
    return Scene(side, side).draw(1.0)


def assert_same_output(original: Net, path: Path, overrides: Overrides | None = None) -> None:
    """Compares the graph's output for a frame with that of the original network, which must have contrast."""
    frame = frame_for(original)
    expected = output_of(original, frame)
    assert expected.std() > 15
    assert psnr(styled(path, frame, overrides), expected) >= LEAST_DB


@pytest.mark.parametrize("keys_only", [False, True])
@pytest.mark.parametrize("original", [resnet(2, 4, "none"), resnet(1, 4, "none", "bilinear"), unet(8, 2, "none")])
def test_without_norms_and_biases_no_norm_is_built(original: Net, keys_only: bool, tmp_path: Path) -> None:
    path = saved(with_contrast(original), tmp_path / "latest_net_G.pth", keys_only)
    trained = read_generator(path)
    assert trained.architecture["norm"] == "none"
    assert any("--norm instance" in str(finding) for finding in trained.findings)
    assert_same_output(original, path)


@pytest.mark.parametrize("original", [resnet(1, 4, "none", bias=True), unet(8, 2, "none", bias=True)], ids=["resnet", "unet"])
def test_an_assumed_norm_is_named_and_can_be_changed(original: Net, tmp_path: Path) -> None:
    path = saved(with_contrast(original), tmp_path / "latest_net_G.pth")
    assumed = read_generator(path)
    assert assumed.architecture["norm"] == "instance"
    assert any(str(finding).startswith("norm instance: assumed") and "--norm none" in finding.why for finding in assumed.findings)
    assert_same_output(original, path, Overrides(norm="none"))


@pytest.mark.parametrize("original", [resnet(1, 4, bias=False), unet(8, 2, "instance", bias=False)], ids=["resnet", "unet"])
def test_an_instance_norm_without_biases_is_recorded_by_torch_or_a_flag(original: Net, tmp_path: Path) -> None:
    path = saved(with_contrast(original), tmp_path / "latest_net_G.pth")
    assert_same_output(original, path)
    path = saved(original, tmp_path / "keys.pth", keys_only=True)
    assert read_generator(path).architecture["norm"] == "none"
    assert_same_output(original, path, Overrides(norm="instance"))


def test_some_biases_show_no_norm(tmp_path: Path) -> None:
    state = resnet(1, 2).state_dict()
    del state["model.4.bias"]
    torch.save(dict(state), tmp_path / "g.pth")
    with pytest.raises(ConfigError, match="6 of 7 convolutions have a bias, .* add --norm instance or --norm none"):
        read_generator(tmp_path / "g.pth")
    assert read_generator(tmp_path / "g.pth", overrides=Overrides(norm="none")).architecture["norm"] == "none"
    torch.save(state, tmp_path / "g.pth")  # with what torch records of the modules
    assert read_generator(tmp_path / "g.pth").architecture["norm"] == "instance"


@pytest.mark.parametrize(
    ("original", "overrides", "reason"),
    [
        (resnet(1, 2), Overrides(norm="batch"), "norm batch does not fit: the file has no weights of norms"),
        (resnet(1, 2), Overrides(norm="group"), "norm must be one of instance, batch, none, got 'group'"),
        (resnet(1, 2, "batch"), Overrides(norm="none"), "norm none does not fit: the file has the weights of norms"),
        (resnet(1, 2), Overrides(batch_norm="image"), "batch_norm is for batch norms, but the norm is instance"),
        (resnet(1, 2, "batch"), Overrides(batch_norm="mean"), "batch_norm must be image or running, got 'mean'"),
        (resnet(1, 2), Overrides(gray="mean"), "gray is for generators of gray images"),
        (resnet(1, 2, channels=(1, 1)), Overrides(gray="red"), "gray must be luma or mean, got 'red'"),
    ],
)
def test_overrides_that_do_not_fit_are_errors(original: Net, overrides: Overrides, reason: str, tmp_path: Path) -> None:
    path = saved(original, tmp_path / "g.pth")
    with pytest.raises(ConfigError, match=rf"g.pth: {reason}"):
        read_generator(path, overrides=overrides)


@pytest.mark.parametrize("up", ["blur", "deconvolution"])
@pytest.mark.parametrize("blur_down", [True, False], ids=["blur", "stride"])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_generators_of_cut_are_read(norm: str, blur_down: bool, up: str, tmp_path: Path) -> None:
    original = with_contrast(resnet(3, 4, norm, up, blur_down=blur_down, dropout=norm == "batch"))
    path = saved(original, tmp_path / "latest_net_G.pth")
    overrides = Overrides(batch_norm="running" if norm == "batch" else None)
    architecture = read_generator(path, overrides=overrides).architecture
    assert architecture["upsample"] == ("antialias" if up == "blur" else "deconvolution")
    assert architecture.get("downsample") == ("antialias" if blur_down else None)
    assert_same_output(original, path, overrides)


def test_a_model_of_cut_takes_any_size(tmp_path: Path) -> None:
    path = saved(with_contrast(resnet(1, 2, up="blur", blur_down=True)), tmp_path / "latest_net_G.pth")
    trained = read_generator(path)
    assert isinstance(trained.network, ResnetGenerator)
    export_onnx(trained, tmp_path / "m.onnx", check=False)
    with closing(open_engine(tmp_path / "m.onnx", "onnxruntime", "cpu")) as engine:
        report = verify(engine, trained.network, [Scene(320, 180).draw(1.0)], ((16, 16), (131, 97), (320, 180)))
    assert [agreement.passed for agreement in report] == [True] * 3


@pytest.mark.parametrize("network", ["resnet", "unet"])
@pytest.mark.parametrize("channels", [(1, 1), (1, 3), (3, 1)], ids=["1-1", "1-3", "3-1"])
def test_gray_images_are_converted_in_the_graph(channels: tuple[int, int], network: str, tmp_path: Path) -> None:
    original = resnet(1, 4, channels=channels) if network == "resnet" else unet(8, 2, "instance", channels=channels)
    path = saved(with_contrast(original), tmp_path / "latest_net_G.pth")
    assert_same_output(original, path)
    frame = Scene(64, 48).draw(0.0)
    output = styled(path, frame)
    assert bool((output[..., 0] == output[..., 2]).all()) == (channels[1] == 1)


def test_gray_can_be_the_mean_of_the_colors(tmp_path: Path) -> None:
    original = with_contrast(resnet(1, 4, channels=(1, 1)))
    path = saved(original, tmp_path / "latest_net_G.pth")
    frame = Scene(96, 96).draw(1.0)
    x = torch.from_numpy(frame.astype(np.float32).mean(2))[None, None] / 127.5 - 1
    with torch.no_grad():
        expected = ((original(x)[0].expand(3, -1, -1) + 1) * 127.5).permute(1, 2, 0).round().byte().numpy()
    assert psnr(styled(path, frame, Overrides(gray="mean")), expected) >= LEAST_DB
    assert psnr(styled(path, frame), expected) < LEAST_DB
    assert any("luma" in str(finding) and "--gray mean" in str(finding) for finding in read_generator(path).findings)


@pytest.mark.parametrize(
    ("original", "reason"),
    [
        (unet(5, 1, channels=(1, 2)), "a generator of 1 -> 2 channels, colorization in Lab, .*; expected 1 \\(gray\\) or 3"),
        (resnet(1, 1, channels=(4, 3)), "a generator of 4 -> 3 channels; expected 1 \\(gray\\) or 3 \\(RGB\\) on each side"),
    ],
)
def test_other_channels_are_one_line(original: Net, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"g.pth: {reason}"):
        read_generator(saved(original, tmp_path / "g.pth"))


@pytest.mark.parametrize("original", [unet(8, 4), resnet(2, 4, "batch"), unet(8, 4, bias=True)], ids=["unet", "resnet", "biases"])
def test_batch_norm_by_the_image_is_the_default_as_in_that_project(original: Net, tmp_path: Path) -> None:
    path = saved(with_contrast(original), tmp_path / "latest_net_G.pth")
    assert_same_output(original.eval(), path, Overrides(batch_norm="running"))
    original.train()
    assert_same_output(original, path)
    assert_same_output(original, path, Overrides(batch_norm="image"))
    with pytest.raises(AssertionError):
        assert_same_output(original, path, Overrides(batch_norm="running"))


def test_norms_with_weights_and_no_statistics_use_those_of_the_image(tmp_path: Path) -> None:
    original = with_contrast(resnet(1, 4, "batch"))
    state = {key: value for key, value in original.state_dict().items() if "running" not in key and "num_batches" not in key}
    torch.save(state, tmp_path / "g.pth")
    assert_same_output(original.train(), tmp_path / "g.pth")


def test_the_table_says_which_statistics_a_batch_norm_uses(tmp_path: Path) -> None:
    path = saved(with_contrast(resnet(1, 2, "batch")), tmp_path / "latest_net_G.pth")
    options = ("--size", "64x48", "--no-verify")
    done = run_command("export", path, "-o", tmp_path / "m.onnx", *options)
    assert done.returncode == 0, done.stderr
    assert re.search(r"batch norm +│ image +│ statistics of each frame", done.stderr) and "--batch-norm" in done.stderr
    found = json_of("export", path, "-o", tmp_path / "n.onnx", *options, "--batch-norm", "running")["found"]
    assert {part["what"]: part["value"] for part in found} == {"norm": "batch", "batch norm": "running", "direction": "a2b"}


@pytest.mark.parametrize(
    "original",
    [
        resnet(1, 4, "batch", up="blur", blur_down=True),
        resnet(1, 4, "none", channels=(1, 3)),
        unet(8, 2, channels=(3, 1)),
    ],
    ids=["resnet", "gray-to-color", "color-to-gray"],
)
def test_the_engines_give_the_same_picture(original: Net, tmp_path: Path) -> None:
    path = saved(with_contrast(original), tmp_path / "latest_net_G.pth")
    frame = frame_for(original)
    expected = output_of(original.train(), frame)
    model = tmp_path / "m.onnx"
    export_onnx(read_generator(path), model, size=(frame.shape[1], frame.shape[0]), check=False)
    with (
        closing(open_engine(model, "onnxruntime", "cpu", "fp32")) as engine,
        closing(TorchEngine(model, "cpu", "fp32")) as torch_engine,
    ):
        assert min(psnr(engine.run(frame), expected), psnr(torch_engine.run(frame), expected)) >= LEAST_DB


def test_fp16_and_the_comparison_with_the_file_keep_the_settings(tmp_path: Path) -> None:
    path = saved(with_contrast(resnet(1, 2, "none", "nearest", bias=True, channels=(1, 3))), tmp_path / "latest_net_G.pth")
    options = ("--norm", "none", "--upsample", "nearest", "--gray", "mean", "--size", "96x64")
    json_of("export", path, "-o", tmp_path / "m.onnx", *options, "--no-verify")
    compared = json_of("verify", tmp_path / "m.onnx", "--against", path, *frame_options(tmp_path), "--engine", "onnxruntime")
    assert compared["passed"] and [row["size"] for row in compared["sizes"]] == [[96, 64]]
    halved = json_of("export", path, "-o", tmp_path / "h.onnx", *options, "--precision", "fp16")
    assert all(report["passed"] for report in halved["verified"])


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("cycle-resnet6-norm-none", None),
        ("pix2pix-unet256-norm-none", None),
        ("cut-resnet6-antialias", None),
        ("cut-resnet6-no-antialias-up", None),
        ("cycle-resnet6-color-to-gray", None),
        ("cycle-resnet6-gray-to-gray", Overrides(gray="mean")),
        ("pix2pix-unet256-batch-norm-test-py", None),
    ],
)
def test_files_that_people_brought_give_their_own_picture(name: str, overrides: Overrides | None) -> None:
    folder = shared("faults/models")
    frame, expected = (cv2.imread(str(folder / f"{name}-{role}.png")) for role in ("in", "expected"))
    assert frame is not None and expected is not None
    path = folder / f"{name}_net_G.pth"
    assert psnr(styled(path, np.asarray(frame, np.uint8), overrides), expected) >= LEAST_DB
