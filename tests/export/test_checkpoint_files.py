"""Files that people bring: whole checkpoints, names that show a direction, safetensors, and files of other types."""

from __future__ import annotations

import argparse
import json
import struct
import sys
import types
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cyclecast.errors import ConfigError, MissingExtraError, ModelError
from cyclecast.export.checkpoints import read_generator
from cyclecast.export.state_dicts import Overrides
from cyclecast.export.state_dicts.names import direction_from_name
from cyclecast.runtime.engines import open_engine
from cyclecast.video.scene import Scene
from tests.commands import json_of, run_command
from tests.conftest import shared
from tests.export.originals import Net, assert_same_output, output_of, psnr, resnet, saved, unet, with_contrast


def prefixed(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in network.state_dict().items()}


def discriminator(prefix: str = "") -> dict[str, Tensor]:
    return prefixed(nn.Sequential(nn.Conv2d(3, 2, 4), nn.LeakyReLU(), nn.Conv2d(2, 1, 4)), f"{prefix}model.")


def write(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def a2b() -> Net:
    return with_contrast(resnet(1, 2), seed=1)


@pytest.fixture(scope="module")
def b2a() -> Net:
    return with_contrast(resnet(1, 2), seed=2)


def around(network: Net, layout: str) -> dict[str, Any]:
    """Wraps the network's weights in what a training script saves."""
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = network.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    optimizer.step()  # with state for each weight
    network.load_state_dict(before)
    state = network.state_dict()
    random = {key: torch.rand_like(value) for key, value in state.items()}
    options = argparse.Namespace(ngf=2, name="x", folder=Path("runs"), best=np.float32(1))
    if layout == "state_dict":
        return {"epoch": 3, "state_dict": state, "optimizer": optimizer.state_dict(), "opt": options, "best": np.float64(0.5)}
    if layout == "lightning":
        weights = prefixed(network, "netG.") | discriminator("netD.")
        return {"state_dict": weights, "epoch": 1, "callbacks": {}, "optimizer_states": [optimizer.state_dict()]}
    if layout == "params_ema":
        return {"params": random, "params_ema": state}
    if layout == "ema_state_dict":
        return {"state_dict": prefixed(network, "G.") | {"G.model.1.weight": torch.zeros(1)}, "state_dict_ema": {"G": state}}
    if layout == "module":
        return prefixed(network, "module.")
    if layout == "netG":
        return prefixed(network, "netG.")
    if layout == "module.generator":
        return prefixed(network, "module.generator.") | discriminator("module.discriminator.")
    if layout == "compiled":
        return {"model": prefixed(network, "_orig_mod.module.")}
    if layout == "bare":
        return {key.removeprefix("model."): value for key, value in state.items()}
    assert layout == "nested"
    return {"models": {"generator": {"weights": state}, "discriminator": discriminator()}, "step": 7, "loss": torch.tensor(0.5)}


LAYOUTS = {
    "state_dict": "state_dict",
    "lightning": "state_dict.netG",
    "params_ema": "params_ema",
    "module": "",
    "netG": "netG",
    "module.generator": "generator",
    "compiled": "model",
    "bare": "",
    "nested": "models.generator.weights",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_only_generator_of_a_checkpoint_is_found(layout: str, a2b: Net, tmp_path: Path) -> None:
    trained = read_generator(write(around(a2b, layout), tmp_path / "checkpoint.ckpt"))
    assert_same_output(a2b, trained, 48)
    found = [finding.value for finding in trained.findings if finding.what == "key"]
    assert found == ([LAYOUTS[layout]] if LAYOUTS[layout] else [])


def test_a_unet_is_found_inside_a_checkpoint(tmp_path: Path) -> None:
    original = with_contrast(unet(5, 2, "instance"))
    for prefix in ("generator.", "module.", "G.module.", "model."):
        state = {"model": prefixed(original, prefix) | discriminator("D.")} if prefix != "module." else prefixed(original, prefix)
        assert_same_output(original, read_generator(write(state, tmp_path / "c.pth")), 64)


def test_averaged_weights_come_first_and_key_chooses_the_others(a2b: Net, b2a: Net, tmp_path: Path) -> None:
    path = write({"params": b2a.state_dict(), "params_ema": a2b.state_dict()}, tmp_path / "c.pth")
    assert "averaged weights; the alternative is --key params" in str(read_generator(path).findings[0])
    assert_same_output(b2a, read_generator(path, overrides=Overrides(key="params")), 48)


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (("G_AB", "G_BA"), ""),
        (("netG_A", "netG_B"), "state_dict."),
        (("genA2B", "genB2A"), ""),
        (("gen_ab", "gen_ba"), "module."),
    ],
)
def test_of_two_generators_a_key_or_the_direction_chooses(
    names: tuple[str, str], prefix: str, a2b: Net, b2a: Net, tmp_path: Path
) -> None:
    if prefix == "":
        state: dict[str, Any] = {names[0]: a2b.state_dict(), names[1]: b2a.state_dict(), "D_A": discriminator()}
    else:
        weights = prefixed(a2b, f"{names[0]}.") | prefixed(b2a, f"{names[1]}.") | discriminator("D_A.")
        state = {"state_dict": weights} if prefix == "state_dict." else {f"module.{key}": value for key, value in weights.items()}
    path = write(state, tmp_path / "last.ckpt")
    with pytest.raises(ConfigError) as caught:
        read_generator(path)
    message = str(caught.value)
    assert "holds 2 generators" in message and all(name in message for name in (*names, "(a2b)", "(b2a)", "--key"))
    assert "D_A" not in message and "\n" not in message
    for name, network, direction in zip(names, (a2b, b2a), ("a2b", "b2a"), strict=True):
        by_key, by_direction = read_generator(path, overrides=Overrides(key=name)), read_generator(path, direction)
        for trained in (by_key, by_direction):
            assert trained.direction == direction
            assert_same_output(network, trained, 48)
    with pytest.raises(ConfigError, match=rf"no generator named 'D_A': it holds .*{names[0]}"):
        read_generator(path, overrides=Overrides(key="D_A"))


def test_the_command_takes_a_key(a2b: Net, tmp_path: Path) -> None:
    path = write({"G_AB": a2b.state_dict(), "G_BA": a2b.state_dict()}, tmp_path / "both.pth")
    refused = run_command("export", path, "-o", tmp_path / "m.onnx")
    assert refused.returncode == 1 and "G_AB (a2b), G_BA (b2a)" in refused.stderr
    done = run_command("export", path, "-o", tmp_path / "m.onnx", "--key", "G_BA", "--no-verify", "--size", "64x48")
    assert done.returncode == 0 and "both.pth: b2a, generator resnet" in done.stderr, done.stderr


def test_without_a_generator_the_likely_keys_are_listed(tmp_path: Path) -> None:
    other = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Conv2d(2, 3, 3)).state_dict()
    path = write({"epoch": 3, "netG": other, "netD": discriminator(), "opt": {}}, tmp_path / "c.pth")
    with pytest.raises(
        ModelError, match=r"c.pth: holds epoch, netG, netD and 1 more \(netG may be a generator of another"
    ) as caught:
        read_generator(path)
    assert "\n" not in str(caught.value)


def test_unknown_tensors_beside_a_generator_are_not_ignored(a2b: Net, tmp_path: Path) -> None:
    path = write({"G": a2b.state_dict() | {"attention.weight": torch.zeros(3)}}, tmp_path / "c.pth")
    with pytest.raises(ModelError, match="holds attention.weight, not expected in generator resnet"):
        read_generator(path)


def test_settings_of_lightning_beside_the_weights_do_no_harm(a2b: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("lightning.fabric.utilities.data")
    attributes = type("AttributeDict", (dict,), {"__module__": module.__name__})
    module.AttributeDict = attributes  # type: ignore[attr-defined]
    for name in ("lightning", "lightning.fabric", "lightning.fabric.utilities"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = write({"state_dict": prefixed(a2b, "net."), "hyper_parameters": attributes(lr=0.1)}, tmp_path / "l.ckpt")
    monkeypatch.delitem(sys.modules, module.__name__)  # not installed where the file is read
    assert_same_output(a2b, read_generator(path), 48)


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("netG_B2A", "b2a"),
        ("netG_A2B", "a2b"),
        ("G_BA_100", "b2a"),
        ("G_AB_199", "a2b"),
        ("latest_net_G_B", "b2a"),
        ("latest_net_G_A", "a2b"),
        ("200_net_G_B_ema", "b2a"),
        ("genB2A", "b2a"),
        ("gen_ba", "b2a"),
        ("generator_b2a_epoch3", "b2a"),
        ("generatorBtoA", "b2a"),
        ("horse_BtoA", "b2a"),
        ("state_dict.netG_B", "b2a"),
        ("latest_net_G", None),
        ("monet_a", None),
        ("abba", None),
        ("b_to_a", "b2a"),
        ("netG_AB", "a2b"),
        ("a2a", None),
    ],
)
def test_the_direction_is_in_the_name(name: str, direction: str | None, tmp_path: Path) -> None:
    assert direction_from_name(name) == direction
    trained = read_generator(saved(resnet(1, 1), tmp_path / f"{name}.pth"))
    assert trained.direction == (direction or "a2b")
    (finding,) = (finding for finding in trained.findings if finding.what == "direction")
    assert ("--direction b2a" in finding.why) == (direction is None)


def test_export_of_a_run_prints_its_direction_and_the_folders(run: Path, tmp_path: Path) -> None:
    for direction, folders in (("a2b", r"from \S*trainA to \S*trainB"), ("b2a", r"from \S*trainB to \S*trainA")):
        options = () if direction == "a2b" else ("--direction", "b2a")
        done = run_command("export", run, "-o", tmp_path / f"{direction}.onnx", "--no-verify", "--size", "64x48", *options)
        assert done.returncode == 0, done.stderr
        line = next(line for line in done.stderr.splitlines() if f"direction {direction}" in line)
        assert (folders.split()[0] in line) and ("--direction b2a" in line) == (direction == "a2b")
        assert line.index(f"train{direction[0].upper()}") < line.index(f"train{direction[2].upper()}")


def write_safetensors(tensors: dict[str, Tensor], path: Path) -> Path:
    """Writes a length, a JSON header, and the values."""
    header, data = {}, b""
    for key, value in tensors.items():
        values = value.detach().numpy().astype(np.float32).tobytes()
        header[key] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_safetensors_are_read(a2b: Net, tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    path = write_safetensors(prefixed(a2b, "netG_B."), tmp_path / "model.safetensors")
    trained = read_generator(path)
    assert trained.direction == "b2a"
    assert_same_output(a2b, trained, 48)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelError, match=r"model.safetensors: cannot be read as safetensors"):
        read_generator(path)


def test_a_safetensors_file_that_the_library_wrote_is_exported(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    original, frame = with_contrast(resnet(1, 4)), Scene(96, 96).draw(1.0)
    path, model = tmp_path / "G_BA.safetensors", tmp_path / "m.onnx"
    library.save_file({f"G_BA.{key}": value.half() for key, value in original.state_dict().items()}, path, {"format": "pt"})
    report = json_of("export", path, "-o", model, "--size", "96x96")
    assert report["direction"] == "b2a" and [row["passed"] for row in report["verified"]] == [True]
    with closing(open_engine(model, "onnxruntime", "cpu", "fp32")) as engine:
        assert psnr(engine.run(frame), output_of(original.half().float(), frame)) >= 48


def test_safetensors_without_the_package_name_the_extra(a2b: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    path = write_safetensors(a2b.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(MissingExtraError, match=r"safetensors is not installed: pip install 'cyclecast\[train\]'"):
        read_generator(path)


class Program(nn.Module):
    """Something to script."""

    def forward(self, x: Tensor) -> Tensor:
        return x


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:3b0f\nsize 6728029\n"
PAGE = b"\xef\xbb\xbf\n<!DOCTYPE html><html><body>404</body></html>"


def other_type(name: str, folder: Path) -> Path:
    """Writes a file of a type that is neither a checkpoint nor an ONNX model."""
    path = folder / "latest_net_G.pth"
    if name == "torchscript":
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, but people have such files
            torch.jit.save(torch.jit.script(Program()), path)
        return path
    contents = {"lfs": POINTER, "html": PAGE, "empty": b"", "gzip": b"\x1f\x8b\x08\x00", "keras": b"\x89HDF\r\n\x1a\n"}
    path.write_bytes(contents[name])
    return path


OTHER_TYPES = {
    "lfs": "a Git LFS pointer, not the file itself",
    "html": "a web page (HTML), not the file itself",
    "empty": "an empty file",
    "gzip": "a gzip archive",
    "keras": "a Keras model (HDF5)",
    "torchscript": "a TorchScript archive, which is a program",
}


@pytest.mark.parametrize("name", OTHER_TYPES)
@pytest.mark.parametrize(("command", "expected"), [("export", "a checkpoint of PyTorch"), ("adopt", "an ONNX model")])
def test_files_of_other_types_are_called_by_name(command: str, expected: str, name: str, tmp_path: Path) -> None:
    path = other_type(name, tmp_path)
    done = run_command(command, path, "-o", tmp_path / "m.onnx")
    assert done.returncode == 1 and not (tmp_path / "m.onnx").exists()
    (line,) = done.stderr.splitlines()
    assert f"{path}: {OTHER_TYPES[name]}; expected {expected}" in line


def test_checkpoints_and_onnx_models_are_sent_to_the_other_command(tiny_model: Path, tmp_path: Path) -> None:
    zipped = saved(resnet(1, 1), tmp_path / "zip.pth")
    legacy = tmp_path / "legacy.pth"
    torch.save(resnet(1, 1).state_dict(), legacy, _use_new_zipfile_serialization=False)
    weights = write_safetensors(resnet(1, 1).state_dict(), tmp_path / "w.safetensors")
    for path, type_name in ((zipped, "a PyTorch checkpoint"), (legacy, "a PyTorch checkpoint"), (weights, "a safetensors file")):
        done = run_command("adopt", path, "-o", tmp_path / "m.onnx")
        (line,) = done.stderr.splitlines()
        assert done.returncode == 1 and f"{path}: {type_name}; expected an ONNX model: `cyclecast export {path}" in line
    renamed = tmp_path / "model.pth"
    renamed.write_bytes(tiny_model.read_bytes())
    for path in (tiny_model, renamed):
        with pytest.raises(ModelError, match="an ONNX model; expected a checkpoint of PyTorch: `cyclecast adopt"):
            read_generator(path)


@pytest.mark.parametrize(("name", "type_name"), [("lfs-pointer", "a Git LFS pointer"), ("html-page", "a web page (HTML)")])
def test_shared_files_of_other_types_are_called_by_name(name: str, type_name: str, tmp_path: Path) -> None:
    path = shared(f"faults/models/{name}.onnx")
    for command in ("adopt", "export"):
        done = run_command(command, path, "-o", tmp_path / "m.onnx")
        assert done.returncode == 1 and type_name in done.stderr and len(done.stderr.splitlines()) == 1
