"""Generators of PyTorch-GAN and pix2pixHD, and our own, saved as a bare state dict: the right picture, or one line.

Their pictures are compared with those of the original networks.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.frame_graph import reference
from cyclecast.export.onnx import export_onnx
from cyclecast.export.state_dicts import Overrides
from cyclecast.export.verify import verify
from cyclecast.runtime.engines import open_engine
from cyclecast.training.networks import ImageGenerator, ResnetGenerator, build_generator
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene
from tests.commands import json_of, run_command
from tests.conftest import moving_frames, tiny_config
from tests.export.originals import frame_options, psnr, pytorch_gan, resnet, saved, with_contrast
from tests.export.test_generators import LEAST_DB, assert_same_output, styled


@pytest.mark.parametrize("keys_only", [False, True])
@pytest.mark.parametrize("blocks", [1, 9])
def test_generators_of_pytorch_gan_are_read(blocks: int, keys_only: bool, tmp_path: Path) -> None:
    original = with_contrast(pytorch_gan(blocks, 4))
    path = saved(original, tmp_path / "G_BA_100.pth", keys_only)
    trained = read_generator(path)
    assert trained.direction == "b2a" and trained.architecture["blocks"] == blocks
    assert_same_output(original, path)
    why = [finding.why for finding in trained.findings if (finding.what, finding.value) == ("upsample", "nearest")]
    assert len(why) == 1 and "PyTorch-GAN" in why[0] and "--upsample bilinear" in why[0]


def test_the_interpolation_of_a_pytorch_gan_fork_is_a_flag(tmp_path: Path) -> None:
    original = with_contrast(pytorch_gan(1, 4, mode="bilinear"))
    assert_same_output(original, saved(original, tmp_path / "G_AB_3.pth"), Overrides(upsample="bilinear"))


def test_a_gray_generator_of_pytorch_gan_is_one_line(tmp_path: Path) -> None:
    original = pytorch_gan(1, 2, channels=1)
    assert original(torch.zeros(1, 1, 64, 64)).shape[2:] == (56, 56)
    with pytest.raises(ModelError, match=r"G_AB_1.pth: a gray generator of PyTorch-GAN, whose output is smaller than its input"):
        read_generator(saved(original, tmp_path / "G_AB_1.pth"))


def test_export_and_verify_take_both_generators_of_pytorch_gan(tmp_path: Path) -> None:
    originals = {"G_AB": with_contrast(pytorch_gan(1, 2), seed=1), "G_BA": with_contrast(pytorch_gan(1, 2), seed=2)}
    path, model = tmp_path / "last.pth", tmp_path / "m.onnx"
    torch.save({name: network.state_dict() for name, network in originals.items()} | {"epoch": 4}, path)
    report = json_of("export", path, "-o", model, "--key", "G_BA", "--size", "64x48")
    assert report["direction"] == "b2a" and all(row["passed"] for row in report["verified"])
    against = ("--against", path, *frame_options(tmp_path))
    assert json_of("verify", model, *against, "--key", "G_BA")["passed"]
    assert json_of("verify", model, *against)["passed"]  # by the direction
    assert run_command("verify", model, *against, "--key", "G_AB").returncode == 1


def test_verify_lists_the_keys_where_the_direction_does_not_choose(tmp_path: Path) -> None:
    network = with_contrast(resnet(1, 2))
    path, model = tmp_path / "last.pth", tmp_path / "m.onnx"
    torch.save({"gen_first": network.state_dict(), "gen_second": network.state_dict()}, path)
    json_of("export", path, "-o", model, "--key", "gen_second", "--size", "64x48", "--no-verify")
    frames = frame_options(tmp_path)
    refused = run_command("verify", model, "--against", path, *frames)
    (line,) = refused.stderr.splitlines()
    assert refused.returncode == 1
    assert f"{path}: holds 2 generators, gen_first, gen_second: choose one with --key, such as --key gen_first" in line
    assert json_of("verify", model, "--against", path, *frames, "--key", "gen_second")["passed"]
    refused = run_command("verify", model, "--against", model, *frames, "--key", "gen_second")
    assert refused.returncode == 1 and "--key is for an --against that is a checkpoint" in refused.stderr


@pytest.mark.parametrize("keys_only", [False, True])
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("halvings", [1, 3, 4])
def test_generators_of_pix2pixhd_are_read(halvings: int, norm: str, keys_only: bool, tmp_path: Path) -> None:
    original = with_contrast(resnet(2, 2, norm, bias=True, halvings=halvings))
    path = saved(original, tmp_path / "latest_net_G.pth", keys_only)
    overrides = Overrides(batch_norm="running" if norm == "batch" else None)
    assert read_generator(path, overrides=overrides).architecture["halvings"] == halvings
    assert_same_output(original, path, overrides)


def test_a_model_of_pix2pixhd_takes_frames_from_16_pixels_up(tmp_path: Path) -> None:
    path, frames = saved(with_contrast(resnet(1, 2, bias=True, halvings=4)), tmp_path / "latest_net_G.pth"), moving_frames(2)
    trained = read_generator(path)
    assert isinstance(trained.network, ResnetGenerator)
    export_onnx(trained, tmp_path / "m.onnx", check=False)
    with closing(open_engine(tmp_path / "m.onnx", "onnxruntime", "cpu")) as engine:
        sizes = ((16, 16), (17, 40), (131, 97), (320, 180))
        assert [agreement.passed for agreement in verify(engine, trained.network, frames, sizes)] == [True] * 4


class Local(nn.Module):
    """The modules of pix2pixHD's LocalEnhancer."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.model = resnet(1, 2, halvings=3).model[:-3]
        self.model1_1 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, 1, 7), nn.InstanceNorm2d(1))
        self.model1_2 = nn.Sequential(*resnet(blocks, 1).model[10 : 10 + blocks], nn.ConvTranspose2d(2, 1, 3))


OTHERS: dict[str, tuple[str, ...]] = {
    "a StyleGAN2 generator of CUT": ("encoder.convs.1.0.weight", "decoder.convs.3.conv.weight"),
    "a U-Net of PyTorch-GAN": ("down1.model.0.weight", "up1.model.1.weight", "final.2.weight"),
    "a generator of U-GAT-IT": ("gap_fc.weight", "gmp_fc.weight", "UpBlock2.1.weight"),
    "a generator of MUNIT": ("enc_content.model.0.conv.weight", "dec.model.0.model.0.model.0.conv.weight"),
    "a generator of AnimeGANv2": ("block_a.0.1.weight", "out_layer.0.weight"),
    "a style network of pytorch/examples": ("conv1.conv2d.weight", "res1.conv1.conv2d.weight"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("place", ["", "netG.", "G_AB"])
def test_other_architectures_are_called_by_name(name: str, place: str, tmp_path: Path) -> None:
    prefix = place if place.endswith(".") else ""
    state: Any = {f"{prefix}{key}": torch.zeros(2, 2, 3, 3) for key in OTHERS[name]}
    torch.save({place: state, "epoch": 3} if place == "G_AB" else state, tmp_path / "g.pth")
    with pytest.raises(ModelError, match=rf"g.pth: {name}, which export does not read: write it with torch.onnx.export, and"):
        read_generator(tmp_path / "g.pth")


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_generator_of_two_scales_is_called_by_name(blocks: int, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"g.pth: pix2pixHD's LocalEnhancer, which works at two scales, which export does not"):
        read_generator(saved(Local(blocks), tmp_path / "g.pth"))


UPSAMPLES = ("deconvolution", "resize", "nearest", "pixelshuffle", "antialias")


def with_wide_output(network: ImageGenerator) -> ImageGenerator:
    """Changes weights at random, so that each layer shows in the output, and widens its range; eval mode."""
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                reach = layer.weight[0, 0].numel() / (4 if isinstance(layer, nn.ConvTranspose2d) else 1)
                layer.weight.normal_(0, (2 / (reach * layer.in_channels)) ** 0.5)
                if layer.bias is not None:
                    layer.bias.normal_(0, 0.3)
            elif isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None and layer.running_var is not None
                layer.running_mean.normal_(0, 0.3)
                layer.running_var.uniform_(0.5, 1.5)
        last = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)][-1]
        last.weight.mul_(0.3)
    return network.eval()


def own_picture(network: ImageGenerator, frame: Image) -> Image:
    """Computes the network's own output for a frame."""
    expected: Image = reference(network, torch.from_numpy(frame)).numpy()
    assert expected.std() > 10
    return expected


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("upsample", UPSAMPLES)
def test_bare_state_dicts_of_our_trainer_are_read(upsample: str, norm: str, tmp_path: Path) -> None:
    frame = Scene(64, 64).draw(1.0)
    for skip in (False, True):
        architecture: dict[str, Any] = {"generator": "resnet6", "ngf": 4, "upsample": upsample, "norm": norm, "skip": skip}
        network = with_wide_output(build_generator(**architecture))
        expected = own_picture(network, frame)
        path = saved(network, tmp_path / "g.pth")
        trained = read_generator(path)
        assert trained.architecture == architecture
        assert "its settings are recorded in the file" in str(trained.findings)
        assert psnr(styled(path, frame), expected) >= LEAST_DB
        torch.save({"model": {f"module.{key}": value for key, value in network.state_dict().items()}}, tmp_path / "keys.pth")
        # Without the record, keys cannot show a few settings. Each of them is a flag that the findings name.
        overrides = Overrides(
            upsample="nearest" if upsample == "nearest" else None,
            skip=skip or None,
            norm=norm if upsample == "deconvolution" and norm != "batch" else None,
            border="reflect" if norm == "none" and upsample == "deconvolution" else None,
            batch_norm="running" if norm == "batch" and upsample == "deconvolution" else None,
        )
        assert psnr(styled(tmp_path / "keys.pth", frame, overrides), expected) >= LEAST_DB
        named = str(read_generator(tmp_path / "keys.pth").findings)
        for flag in ("upsample", "norm", "border", "batch-norm"):
            if getattr(overrides, flag.replace("-", "_")):
                assert flag == "border" or f"--{flag}" in named
        if norm != "batch" and upsample != "deconvolution":
            assert "--skip" in named


@pytest.mark.parametrize("keys_only", [False, True])
@pytest.mark.parametrize("upsample", UPSAMPLES)
def test_bare_state_dicts_of_our_u_nets_are_read(upsample: str, keys_only: bool, tmp_path: Path) -> None:
    frame = Scene(256, 256).draw(1.0)
    network = with_wide_output(build_generator(generator="unet256", ngf=2, upsample=upsample, skip=False, dropout=0.0))
    path = saved(network, tmp_path / "g.pth", keys_only)
    overrides = Overrides(
        norm="instance" if upsample == "deconvolution" else None, upsample="nearest" if upsample == "nearest" else None
    )
    overrides = overrides if keys_only else Overrides()
    assert psnr(styled(path, frame, overrides), own_picture(network, frame)) >= LEAST_DB


@pytest.mark.parametrize("keys_only", [False, True])
@pytest.mark.parametrize("settings", [{"factor": 4}, {"factor": 8}, {"factor": 4, "skip": True}], ids=str)
def test_bare_state_dicts_of_frame_generators_are_read(settings: dict[str, Any], keys_only: bool, tmp_path: Path) -> None:
    frame = Scene(96, 64).draw(1.0)
    network = build_generator(generator="frame", width=8, blocks=3, **settings)
    with torch.no_grad():
        network.model[-2].weight.mul_(20)  # type: ignore[operator, index]
    path = saved(network.eval(), tmp_path / "g.pth", keys_only)
    overrides = Overrides(skip=True) if keys_only and "skip" in settings else Overrides()
    assert psnr(styled(path, frame, overrides), own_picture(network, frame)) >= LEAST_DB


def test_recorded_settings_survive_wrappers_and_copies(tmp_path: Path) -> None:
    frame = Scene(64, 64).draw(1.0)
    network = with_wide_output(build_generator(generator="resnet", blocks=1, ngf=4, upsample="nearest", norm="none"))
    expected = own_picture(network, frame)
    torch.save({"ema": nn.DataParallel(network).state_dict()}, tmp_path / "g.pth")
    assert psnr(styled(tmp_path / "g.pth", frame), expected) >= LEAST_DB
    with pytest.raises(ConfigError, match="it records the settings of its network: leave norm and skip out"):
        read_generator(tmp_path / "g.pth", overrides=Overrides(norm="instance", skip=True, upsample="nearest"))
    state = network.state_dict()
    state["model.1.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(ModelError, match=r"bad.pth: records settings of cyclecast that do not fit it \(.*size mismatch"):
        read_generator(tmp_path / "bad.pth")


def test_a_trained_generator_saved_by_hand_is_exported(domains: Path, tmp_path: Path) -> None:
    from cyclecast.training.checkpoint import generator_from_checkpoint, load
    from cyclecast.training.loop import train

    train("cyclegan", tiny_config(domains, tmp_path / "run", steps=1, upsample="pixelshuffle", norm="none", ngf=2))
    _, network = generator_from_checkpoint(load(tmp_path / "run"), "b2a")
    recorded, keys_only, model = tmp_path / "G_BA.pth", tmp_path / "keys_BA.pth", tmp_path / "m.onnx"
    torch.save(network.state_dict(), recorded)
    torch.save(dict(network.state_dict()), keys_only)
    report = json_of("export", recorded, "-o", model, "--size", "64x48")
    assert report["direction"] == "b2a" and [row["passed"] for row in report["verified"]] == [True]
    for path in (tmp_path / "run", keys_only):
        done = json_of("verify", model, "--against", path, *frame_options(tmp_path), "--engine", "onnxruntime")
        assert done["passed"] and done["max_abs"] <= 1
