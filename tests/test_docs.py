"""The commands in README, docs, model cards and deployment files: each is run, with small files in place of the reader's."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import typer

import cyclecast
from cyclecast.cli import app
from cyclecast.video.scene import Scene
from tests.commands import run_command
from tests.conftest import moving_frames
from tests.documents import PAGES, ROOT, commands_of, deployed_commands, python_of

GROUP: Any = typer.main.get_command(app)
WRITTEN = [(page.name, words) for page in PAGES for words in commands_of(page)]


def key_of(words: list[str]) -> str:
    """Commands with the same key are run once: the words, and of an export, which takes seconds, only its flags."""
    if "export" not in words:
        return shlex.join(words)
    flags = sorted(word for word in words if word.startswith("--") and word != "--direction")
    return " ".join(["export", *flags, *[word[-4:] for word in words if word.endswith(".pth")]])


TO_RUN = [shlex.join(words) for words in {key_of(words): words for _, words in reversed(WRITTEN)}.values()]
SMALL = {  # what a command gets in addition, so that it ends in a moment
    "bench": ["--size", "64x48", "--frames", "1"],
    "demo": ["--seconds", "0.2"],
    "export": ["--no-verify", "--size", "64x48"],
    "live": ["--seconds", "0.2"],
    "models": ["--no-bench"],
    "verify": ["--size", "64x48"],
    "train": ["--steps", "1", "--set", "precision=fp32"],
}
TINY_NETWORKS = ["--set", "ngf=4", "--set", "ndf=4", "--set", "load_size=40", "--set", "crop_size=32"]
TINY_LATENT = ["--set", "image_size=8", "--set", "batch_size=4"]
VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi")


def parse(words: list[str]) -> tuple[str, list[str], dict[str, Any]]:
    """Returns the command, its words and its parsed options. Words before `cyclecast` are those of another program."""
    command, *rest = words[words.index("cyclecast") + 1 :]
    if command.startswith("-"):
        return command, [], {}
    return command, rest, GROUP.commands[command].make_context(command, list(rest)).params


def reason_not_to_run(words: list[str], command: str, options: dict[str, Any]) -> str | None:
    """Returns why a documented command is only parsed; None if the test runs it."""
    engines = options.get("engine") or "auto"
    if words[0] == "torchrun":
        return "starts several processes: tests/training/test_processes.py does"
    if command == "doctor":
        return "takes seconds: tests/test_doctor.py runs it"
    if command == "evaluate":
        return "takes minutes: tests/training/test_evaluate_runs.py runs it"
    if command == "ui":
        return "runs until Ctrl-C: tests/video/live/test_ui.py runs it"
    if command == "style":
        return "takes minutes: tests/style/test_style.py runs it with small data"
    if command == "reproduce":
        return "takes hours: tests/training/test_reproduce.py runs it with small data"
    if command == "convert" and options["cluster"]:
        return "needs a Ray cluster: tests/test_cluster.py starts one"
    if command == "convert" and {options["encoder"], options["decoder"]} - {"auto", "software"}:
        return "needs an encoder or a decoder in hardware"
    if command == "live" and not (
        (options["source"] or "").startswith("pattern://") and {*(options["sink"] or ["window"])} <= {"null"}
    ):
        return "needs a camera, a network or a display: tests/video/live/ runs each source and sink"
    if any(str(options.get(name)).startswith(("hf:", "https:")) for name in ("model", "to", "index")):
        return "needs a network: tests/test_hub.py serves styles on this machine"
    if command == "models" and any(word.startswith("hf:") for word in options["name"] or []):
        return "needs a network: tests/test_hub.py serves styles on this machine"
    if "tensorrt" in ([engines] if isinstance(engines, str) else engines) or str(options.get("model", "")).endswith(".plan"):
        return "needs an NVIDIA GPU"
    if "webgpu" in engines:
        return "needs a GPU: tests/runtime/test_engines.py runs it where there is one"
    if command == "export" and str(options["checkpoint"]).endswith(".pth"):
        return "needs a file of pytorch-CycleGAN-and-pix2pix: tests/export/test_state_dicts.py makes one"
    if command == "web-app":
        return "needs onnxruntime-web: tests/web_app/ runs it"
    if command == "export" and options["target"] == "web":
        return "tests/export/test_web.py runs it"
    if command == "train" and "-teacher" in f"{options['config']} {options['settings']}":
        return "takes minutes: tests/training/test_teachers.py trains with these settings"
    return None


@pytest.mark.parametrize(("page", "words"), [*WRITTEN, *deployed_commands()], ids=lambda value: str(value)[:70])
def test_a_documented_command_is_accepted(page: str, words: list[str]) -> None:
    command, _, options = parse(words)
    for setting in options.get("settings") or []:
        from cyclecast.training.config import settings_of
        from cyclecast.training.recipes import RECIPES

        key = setting.partition("=")[0]
        assert key in settings_of(RECIPES[options["recipe"]].Config), key


@pytest.fixture
def provide(
    clip: Path,
    tiny_model: Path,
    family_model: Callable[[str, str], Path],
    run: Path,
    domains: Path,
    side_by_side: Path,
    digits: Path,
    tmp_path: Path,
) -> Callable[[str, dict[str, Any]], None]:
    """provide(command, options): puts small files where the command expects the reader's, below `tmp_path`."""

    def video(name: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in VIDEOS:
            shutil.copyfile(clip, path)
        elif path.suffix:
            assert cv2.imwrite(str(path), moving_frames(1)[0])
        else:
            path.mkdir()
            shutil.copyfile(clip, path / f"{path.name}.mp4")
            assert cv2.imwrite(str(path / f"{path.name}.jpg"), moving_frames(1)[0])

    def model(name: object) -> None:
        if name is not None and str(name).endswith(".onnx"):
            shutil.copyfile(tiny_model, tmp_path / str(name))

    def provide(command: str, options: dict[str, Any]) -> None:
        if command == "convert":
            for source in options["sources"]:
                video(source.replace("*", "clip"))
            model(options["model"])
        elif command == "train":
            (tmp_path / "cyclecast").symlink_to(ROOT / "cyclecast")
            recipe, data = options["recipe"], options["data"]
            source = side_by_side if recipe == "pix2pix" else digits if data is not None and data.suffix else domains
            for path in (data, options["domain_a"], options["domain_b"]):
                if path is not None and not (tmp_path / path).exists():
                    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                    (tmp_path / path).symlink_to(source if path == data else source / "trainA")
            if options["resume"]:
                shutil.copytree(run, tmp_path / options["out"])
        elif command == "export":
            if "/" in str(options["checkpoint"]):
                shutil.copytree(run, tmp_path / options["checkpoint"])
        elif command == "models":
            if options["image"] is not None:
                video(str(options["image"]))
            if options["index"] is not None:
                shutil.copyfile(ROOT / "docs" / "styles.json", tmp_path / options["index"])
        elif command == "quantize":
            shutil.copyfile(family_model("frame-skip", "fp32"), tmp_path / options["model"])
            photographs(options["photos"])
        elif command == "adopt":
            write_foreign(tmp_path / options["foreign"])
        else:
            for name in ("model", "against"):
                model(options.get(name))

    def photographs(folder: Path) -> None:
        (tmp_path / folder).mkdir()
        for index in range(8):
            cv2.imwrite(str(tmp_path / folder / f"{index}.png"), Scene(96, 64).draw(index / 2))

    return provide


def write_foreign(path: Path) -> None:
    """Writes another project's ONNX model: a convolution, float32 NCHW from 0 to 255, RGB as its input's description says."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.array([[0.6, 0.3, 0.0], [0.1, 0.5, 0.2], [0.0, 0.2, 0.5]], np.float32).reshape(3, 3, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "weights", "bias"], ["mixed"]),
        helper.make_node("Clip", ["mixed", "low", "high"], ["y"]),
    ]
    constants = {"weights": weights, "bias": np.full(3, 20, np.float32), "low": np.float32(0), "high": np.float32(255)}
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "height", "width"], "RGB image, 0..255") for name in "xy"
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "foreign", ports[:1], ports[1:], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), str(path))


@pytest.mark.parametrize("line", TO_RUN)
def test_a_documented_command_runs(
    line: str, provide: Callable[[str, dict[str, Any]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(line)
    command, rest, options = parse(words)
    reason = reason_not_to_run(words, command, options) if options else None
    if reason is not None:
        pytest.skip(reason)
    monkeypatch.chdir(tmp_path)
    extra = list(SMALL.get(command, []))
    if command == "convert" and options["start"] != "0":
        extra = ["--start", "0"]  # the clip is shorter than the reader's video
    if command == "train":
        if options["resume"]:
            extra = ["--steps", "3"]  # one more than the run has
        else:
            extra += TINY_LATENT if options["recipe"] in ("gan", "dcgan", "wgan") else TINY_NETWORKS
    if command == "export" and options["output"] is None:
        extra = []  # a finished model is added to a repository; nothing is exported
    if options:
        provide(command, options)
    done = run_command(command, *rest, *extra)
    assert done.returncode == 0, done.stderr


def test_commands_of_each_part_are_documented_and_run() -> None:
    run = {command for command, _, options in (parse(shlex.split(line)) for line in TO_RUN) if options}
    assert run >= {
        "convert",
        "live",
        "train",
        "export",
        "adopt",
        "quantize",
        "build",
        "verify",
        "bench",
        "evaluate",
        "reproduce",
        "doctor",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_documented_python_uses_public_names(page: Path) -> None:
    for code in python_of(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cyclecast":
                assert hasattr(cyclecast, node.attr), f"cyclecast.{node.attr}"
            elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "cyclecast":
                assert node.module == "cyclecast", f"from {node.module}: not public"
                assert {alias.name for alias in node.names} <= set(cyclecast.__all__)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs Debian's systemd")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = (ROOT / "deploy" / "cyclecast.service").read_text().replace("/opt/cyclecast/bin/cyclecast", "/bin/true")
    (tmp_path / "cyclecast.service").write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "cyclecast.service"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_setting_of_the_unit_is_explained() -> None:
    page = (ROOT / "docs" / "board.md").read_text("utf-8")
    settings = re.findall(r"^([A-Z]\w+=)", (ROOT / "deploy" / "cyclecast.service").read_text(), re.MULTILINE)
    before_hardening = settings[1 : settings.index("NoNewPrivileges=") + 1]  # without Description=
    assert [name for name in before_hardening if name not in page] == []
