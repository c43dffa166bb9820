"""`--model` with what people have: one line that names the file's type and the command to type, and nothing else."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from cyclecast.errors import ModelError
from cyclecast.export.adopt import adopt
from cyclecast.runtime.file_type import how_to_convert
from cyclecast.runtime.model import find_model
from tests.commands import PROGRAM, run_program
from tests.conftest import moving_frames
from tests.runtime.test_engines import model_file


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "")
    return path


def test_every_type_is_named_with_the_command(tmp_path: Path, run: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (tmp_path / "old.pth").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    (tmp_path / "p.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (tmp_path / "page.onnx").write_text("<!DOCTYPE html><html></html>")
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "latest_net_G.pth").touch()
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "model.safetensors").touch()
    new, old = archive(tmp_path / "g.pth", "g/data.pkl"), tmp_path / "old.pth"
    cases = [
        (new, f"a PyTorch checkpoint; expected an ONNX model: `cyclecast export {new} -o M.onnx` converts it to a frame model"),
        (old, f"a PyTorch checkpoint; expected an ONNX model: `cyclecast export {old} -o M.onnx` converts it to a frame model"),
        (
            archive(tmp_path / "s.pt", "s/constants.pkl", "s/code/m.py", "s/data.pkl"),
            "a TorchScript archive, which is a program; expected an ONNX model: write the network with torch.onnx.export",
        ),
        (tmp_path / "w.safetensors", "a safetensors file; expected an ONNX model: `cyclecast export"),
        (run, f"the folder of a training run: `cyclecast export {run} -o M.onnx` converts it to a frame model"),
        (tmp_path / "results", f"a folder of checkpoints: `cyclecast export {tmp_path / 'results' / 'latest_net_G.pth'} -o"),
        (tmp_path / "hub", f"a folder of checkpoints: `cyclecast export {tmp_path / 'hub' / 'model.safetensors'} -o"),
        (tmp_path / "p.onnx", "a Git LFS pointer, not the file itself"),
        (tmp_path / "page.onnx", "a web page"),
        (tmp_path / "text.onnx", "not an ONNX model"),
        (tmp_path / "empty.onnx", "an empty file"),
    ]
    for path, message in cases:
        with pytest.raises(ModelError) as caught:
            find_model(path)
        assert str(caught.value).startswith(f"{path}: not a model cyclecast can run: {message}")
        with pytest.raises(ModelError, match=message[:20]):
            adopt(path, tmp_path / "o.onnx", moving_frames(1))
    assert how_to_convert(model_file(tmp_path / "m.onnx", TensorProto.UINT8, [1, 48, 64, 3])) is None
    with pytest.raises(ModelError, match="no such file, and no bundled model of that name"):
        find_model(tmp_path / "absent.onnx")


@pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not installed")
def test_no_other_library_prints_before_the_line(tmp_path: Path) -> None:
    checkpoint = archive(tmp_path / "g.pth", "g/data.pkl")
    done = run_program("bench", "--model", checkpoint, "--size", "64x48")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "cyclecast export" in done.stderr


def test_a_foreign_model_names_adopt(tmp_path: Path) -> None:
    import cyclecast
    from tests.export.test_adopt import plain
    from tests.export.test_adopt_kinds import only_onnxruntime, with_ports

    paths = [
        plain(tmp_path / "one.onnx", [helper.make_node("Tanh", ["x"], ["y"])]),
        with_ports(tmp_path / "three.onnx"),
        only_onnxruntime(tmp_path / "theirs.onnx"),
    ]
    for path in paths:
        with pytest.raises(ModelError, match=f"`cyclecast adopt {path} -o NEW.onnx` converts image-to-image models"):
            cyclecast.load(path)


def test_a_model_without_metadata_falls_to_a_precision_that_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first engine fails on every frame in its own precision; `auto` takes fp32, and says so."""
    from cyclecast.errors import EngineError
    from cyclecast.runtime.engine import Image
    from cyclecast.runtime.engines import ENGINES, open_engine
    from cyclecast.runtime.engines.onnxruntime import OnnxRuntimeEngine
    from cyclecast.runtime.model_file import ModelFile

    class Failing(OnnxRuntimeEngine):
        name = "openvino"

        def __init__(self, model: Path | ModelFile, device: str, precision: str) -> None:
            super().__init__(model, "cpu", "auto")
            self.precision = "bf16" if precision == "auto" else precision

        def run(self, frame: Image) -> Image:
            if self.precision == "bf16":
                raise EngineError("openvino cannot compile it")
            return super().run(frame)

    path = model_file(tmp_path / "m.onnx", TensorProto.UINT8, [1, "height", "width", 3])
    before = ENGINES["openvino"]
    ENGINES["openvino"] = Failing
    try:
        opened = open_engine(path, "auto", "cpu")
    finally:
        ENGINES["openvino"] = before
    assert (opened.name, opened.precision) == ("openvino", "fp32")
    assert "openvino cannot compile it; using openvino fp32" in caplog.text
    assert opened.run(np.zeros((48, 64, 3), np.uint8)).shape == (48, 64, 3)
