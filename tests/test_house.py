"""What keeps the house light: who may load what."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "onnxscript")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "code",
    [
        "import cyclecast",
        "import cyclecast.cli",
        "import cyclecast.runtime.bench, cyclecast.runtime.engines, cyclecast.runtime.model",
        "import sys; sys.argv = ['cyclecast', '--help']\nfrom cyclecast.cli import main\ntry: main()\nexcept SystemExit: pass",
    ],
    ids=["package", "cli", "runtime", "help"],
)
def test_loads_neither_torch_nor_an_engine(code: str) -> None:
    done = python(f"{code}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_runtime_and_video_work_with_torch_blocked() -> None:
    rooms = (
        "cyclecast.runtime.bench, cyclecast.runtime.engines.openvino, cyclecast.runtime.engines.onnxruntime, "
        "cyclecast.video.convert.convert, cyclecast.video.scene, cyclecast.demo"
    )
    done = python(f"import sys\nfor m in ('torch', 'onnx', 'onnxscript'): sys.modules[m] = None\nimport {rooms}")
    assert done.returncode == 0, done.stderr


def test_train_without_its_extra_names_the_line_to_type(tmp_path: object) -> None:
    code = f"import sys; sys.modules['torch'] = None; sys.argv = ['cyclecast', 'train', 'cyclegan', '--out', {str(tmp_path)!r}]\n"
    done = python(code + "from cyclecast.cli import main\nmain()")
    assert done.returncode == 1
    assert done.stderr == "error: torch is not installed: pip install 'cyclecast[train]'\n"
