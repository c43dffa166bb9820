"""`cyclecast doctor`: its facts match other sources, each problem has its command, and no library can hang or crash it."""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import cv2
import pytest

import cyclecast
from cyclecast import isolated
from cyclecast.doctor import cameras, gpus
from cyclecast.doctor.cameras import Camera, Cameras, find_cameras, measure_camera
from cyclecast.doctor.codecs import Codecs, EncoderFacts, try_encoders
from cyclecast.doctor.examine import examine
from cyclecast.doctor.gpus import Gpus, NvidiaGpu, find_gpus
from cyclecast.doctor.libraries import INSTALL, Device, Library
from cyclecast.doctor.opencv import OpenCv, find_opencv
from cyclecast.doctor.problems import Problem, find_problems
from cyclecast.errors import InputError
from cyclecast.runtime.machine import System, describe_system
from cyclecast.video import v4l2
from cyclecast.video.files.encoders import ENCODERS, known_encoders
from tests.commands import run_command

PROGRAM = Path(sys.executable).parent / "cyclecast"
linux = pytest.mark.skipif(platform.system() != "Linux", reason="of Linux's files")


def run(*args: str, python: tuple[str, ...] = (), **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-m", "cyclecast"] if python else [str(PROGRAM)]
    return subprocess.run(
        [*command, "doctor", *args], capture_output=True, text=True, timeout=300, env=os.environ | env, cwd=tempfile.gettempdir()
    )


def facts(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Reads the one JSON object on stdout."""
    assert "Traceback" not in done.stderr, done.stderr
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value


@pytest.fixture(scope="module")
def doctor() -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """doctor(*args): the command in this process. It examines this machine once for all tests, cameras included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cyclecast.doctor.examine.examine", functools.cache(examine))
        yield lambda *args: run_command("doctor", *args)


@pytest.fixture(scope="module")
def here(doctor: Callable[..., subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    """The facts of this machine."""
    done = doctor("--json")
    value = facts(done)
    assert done.returncode == any(problem["broken"] for problem in value["problems"]), done.stderr
    assert all(set(problem) == {"what", "fix", "broken"} for problem in value["problems"])
    return value


def by_name(value: dict[str, Any]) -> dict[str, Any]:
    return {engine["name"]: engine for engine in value["engines"]}


def test_the_system_is_what_python_says(here: dict[str, Any]) -> None:
    system = here["system"]
    assert (here["cyclecast"], system["python"]) == (cyclecast.__version__, platform.python_version())
    assert platform.system() in system["os"] or "macOS" in system["os"]
    assert system["processor"]["architecture"] == platform.machine()
    if hasattr(os, "sched_getaffinity"):
        assert system["processor"]["cores"] == len(os.sched_getaffinity(0))
        assert 0 < system["memory"]["total_bytes"] <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = shutil.disk_usage(system["outputs"]["path"]).free
    assert system["outputs"]["writable"] and abs(system["outputs"]["free_bytes"] - free) < 0.1 * free


def test_each_installed_engine_is_listed_and_runs(here: dict[str, Any]) -> None:
    import onnxruntime

    from cyclecast.runtime.onnx_file import openvino_core

    engines = by_name(here)
    assert list(engines) == ["openvino", "onnxruntime", "webgpu", "tensorrt", "tensorrt-rtx"]
    for name in ("openvino", "onnxruntime"):
        assert engines[name]["version"] == metadata.version(name) and engines[name]["failure"] is None
    core = openvino_core()
    devices = {device["name"]: device for device in engines["openvino"]["devices"]}
    assert list(devices) == core.available_devices and devices["CPU"]["works"] is True
    assert ("bf16" in devices["CPU"]["precisions"]) == ("BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    providers = {device["name"]: device for device in engines["onnxruntime"]["devices"]}
    assert list(providers) == onnxruntime.get_available_providers()
    assert providers["CPUExecutionProvider"]["works"] is True
    assert here["torch"]["version"] == metadata.version("torch")


def test_each_encoder_that_ffmpeg_lists_is_tested(here: dict[str, Any]) -> None:
    video = here["video"]
    assert video["version"] == av.__version__
    assert video["libraries"]["libavcodec"] == ".".join(map(str, av.library_versions["libavcodec"]))
    known = {name for _, name in known_encoders()}
    tried = {encoder["name"]: encoder for encoder in video["encoders"]}
    assert set(tried) <= known
    for name in known - set(tried):
        with pytest.raises(ValueError):
            av.Codec(name, "w")
    assert all(tried[encoder.name]["works"] for encoder in ENCODERS.values())
    for encoder in tried.values():
        assert (encoder["failure"] is None) == encoder["works"]
    assert tried["libx264"]["hardware"] is None and all(tried[name]["hardware"] == "nvenc" for name in tried if "nvenc" in name)


def test_opencv_matches_its_own_build_information(here: dict[str, Any]) -> None:
    opencv = here["opencv"]
    assert opencv["version"] == cv2.__version__
    line = re.search(r"GStreamer: +(YES|NO)", cv2.getBuildInformation())
    assert line is not None and opencv["features"]["gstreamer"] == (line[1] == "YES")
    assert opencv["window"] or opencv["window_failure"]


def test_the_report_has_headings_and_marked_lines(doctor: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = doctor()
    assert "Traceback" not in done.stderr
    parts = {part.splitlines()[0]: part.splitlines()[1:] for part in done.stdout.strip().split("\n\n")}
    assert list(parts) == ["System", "GPUs", "Engines", "Video", "OpenCV", "Cameras", "To do"]
    assert all(parts.values())
    for heading, lines in parts.items():
        if heading != "To do":
            assert all(re.match(r"  (ok|missing|error) ", line) for line in lines), lines
    assert any(f"openvino      {metadata.version('openvino')}" in line for line in parts["Engines"])
    assert any("libx264" in line for line in parts["Video"])
    for gap, way_out in (("no camera", "live pattern://"), ("no display", "--sink web"), ("needs gstreamer", "apt install")):
        assert all(way_out in line for line in done.stdout.splitlines() if gap in line)


def installation(folder: Path, *absent: str) -> Path:
    """Creates a site-packages folder with links to all installed packages except these."""
    folder.mkdir()
    for entry in Path(cv2.__file__).parent.parent.iterdir():
        if not entry.name.lower().startswith(absent) and not entry.name.endswith(".pth"):
            (folder / entry.name).symlink_to(entry)
    if not (folder / "cyclecast").exists():
        (folder / "cyclecast").symlink_to(Path(cyclecast.__file__).parent)
    return folder


EXTRAS = ("torch", "onnx", "tensorrt", "cuda")


def test_the_base_install_has_no_problems(tmp_path: Path) -> None:
    site = installation(tmp_path / "site", *EXTRAS)
    done = run("--json", "--no-cameras", python=("-S",), PYTHONPATH=str(site))
    value = facts(done)
    assert done.returncode == 0, value["problems"]
    engines = by_name(value) | {"torch": value["torch"]}
    assert {name for name, engine in engines.items() if engine["installed"]} == {"openvino"}
    assert engines["openvino"]["devices"][0]["works"] is True
    assert engines["onnxruntime"]["install"] == "pip install onnxruntime"


def test_no_engine_at_all_is_an_error(tmp_path: Path) -> None:
    site = installation(tmp_path / "site", "openvino", *EXTRAS)
    done = run("--no-cameras", python=("-S",), PYTHONPATH=str(site))
    assert done.returncode == 1
    assert re.search(r"error +no engine works: nothing can be converted\n +pip install openvino\n", done.stdout)
    assert re.search(r"missing +openvino +pip install openvino\n", done.stdout)


def test_broken_libraries_and_doubled_packages_are_errors_with_the_command_that_mends_them(tmp_path: Path) -> None:
    for name, message in (
        ("openvino", "libopenvino.so.9: cannot open shared object file"),
        ("av", "undefined symbol: av_malloc"),
        ("cv2", "libGL.so.1: cannot open shared object file: No such file or directory"),
        ("torch", "libtorch.so: cannot open shared object file"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError({message!r})")
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{name}-9.9.9.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 9.9.9\n")
        (folder / "top_level.txt").write_text("onnxruntime\n")
    done = run("--json", "--no-cameras", PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert done.returncode == 1
    value = facts(done)
    assert by_name(value)["openvino"]["failure"] == "libopenvino.so.9: cannot open shared object file"
    assert value["video"]["failure"] == "undefined symbol: av_malloc" and value["video"]["encoders"] == []
    fixes = {problem["fix"]: problem["what"] for problem in value["problems"] if problem["broken"]}
    assert "libGL.so.1" in fixes["sudo apt install libgl1 libglib2.0-0"]
    assert "pip install --force-reinstall openvino" in fixes
    assert any("PyAV cannot be loaded" in what for what in fixes.values())

    assert by_name(value)["onnxruntime"]["packages"] == ["onnxruntime 9.9.9", "onnxruntime-gpu 9.9.9"]
    (fix,) = [fix for fix, what in fixes.items() if "onnxruntime and onnxruntime-gpu are both installed" in what]
    remove, install = fix.splitlines()
    assert remove == "pip uninstall -y onnxruntime onnxruntime-gpu"
    assert install in ("pip install onnxruntime", "pip install 'cyclecast[gpu]'")


def test_the_version_of_pyav_is_stated_in_the_package_alone() -> None:
    (problem,) = problems(video=Codecs(None, None, {}, "undefined symbol", [], []))
    requirement = next(line.split(";")[0] for line in metadata.requires("cyclecast") or [] if re.match(r"av[<>=~]", line))
    assert problem.fix == f"pip install --force-reinstall '{requirement}'"


def test_it_loads_none_of_the_libraries_itself() -> None:
    libraries = ("numpy", "cv2", "av", "openvino", "torch")
    code = f"import sys, cyclecast.doctor.examine\nprint([m for m in {libraries} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    """A named pipe without a writer: opening it for reading blocks forever."""
    os.mkfifo(tmp_path / "pipe")
    return str(tmp_path / "pipe")


@linux
def test_an_isolated_call_contains_hangs_crashes_and_output(pipe: str, capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    assert isolated.call(open, pipe, seconds=1).failure == "no answer within 1 s"
    assert time.monotonic() - started < 20
    assert isolated.call(os.abort, seconds=60).failure == "crashed (SIGABRT)"
    assert isolated.call(os.listdir, "/no/such", seconds=60).failure == "[Errno 2] No such file or directory: '/no/such'"
    answer = isolated.call(print, "noise", seconds=60)
    assert (answer.failure, answer.output) == (None, "noise\n")
    assert isolated.call(json.dumps, {"a": [1]}, seconds=60).value == '{"a": [1]}'
    assert capfd.readouterr() == ("", "")


@linux
def test_a_camera_that_never_answers_fails_within_the_timeout(pipe: str) -> None:
    started = time.monotonic()
    with pytest.raises(InputError, match="pipe: no answer within 0.5 s$"):
        measure_camera(pipe, timeout=0.5)
    assert time.monotonic() - started < 20


def test_the_delivered_size_and_rate_are_measured(clip: Path) -> None:
    mode = measure_camera(str(clip), (640, 480), timeout=60)
    assert (mode.width, mode.height, mode.format) == (64, 48, "h264")
    assert mode.fps > 0 and mode.first_frame_seconds > 0
    (once,) = cameras.measure_modes(Camera(str(clip), "a clip", "unknown", None, None)).modes  # whatever size is requested
    assert (once.width, once.height) == (64, 48)
    with pytest.raises(InputError, match="cannot be opened"):
        measure_camera(str(clip.with_name("none.mp4")), timeout=60)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder like Linux's root, which every user can read: two cameras and a loopback."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    devices = {"video0": "pci0000:00/usb1/video4linux", "video10": "pci0000:00/usb2/video4linux", "video2": "virtual/video4linux"}
    (folder / "sys/class/video4linux").mkdir(parents=True)
    (folder / "dev").mkdir()
    for name, where in devices.items():
        (folder / "dev" / name).touch()
        device = folder / "sys/devices" / where / name
        device.mkdir(parents=True)
        (device / "name").write_text(f"the {name}\n")
        (folder / "sys/class/video4linux" / name).symlink_to(device)
    yield folder
    shutil.rmtree(folder)


@linux
def test_cameras_are_listed_with_their_names_and_not_opened(root: Path) -> None:
    found = find_cameras(measure=False, root=root)
    assert [(Path(c.source).name, c.name, c.kind) for c in found.devices] == [
        ("video0", "the video0", "unknown"),
        ("video2", "the video2", "virtual"),
        ("video10", "the video10", "unknown"),
    ]
    assert found.loopback is False and all(c.modes == [] and c.failure is None for c in found.devices)


@linux
def test_a_camera_without_permission_names_the_group(root: Path) -> None:
    import grp

    for node in (root / "dev").iterdir():
        node.chmod(0)
    find_cameras(measure=False, root=root)  # import everything before the user changes
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)  # root may open everything
    try:
        found = find_cameras(measure=False, root=root)
    finally:
        os.seteuid(before)
    group = grp.getgrgid((root / "dev/video0").stat().st_gid).gr_name
    assert [c.failure for c in found.devices] == [f"no permission: it belongs to group {group}"] * 3
    (problem,) = problems(cameras=replace(found, pyvirtualcam=None))
    assert problem.fix.startswith(f"sudo usermod -aG {group} $USER") and "video10" in problem.what and not problem.broken


@linux
def test_devices_that_are_no_cameras_fail_or_are_skipped(root: Path) -> None:
    found = find_cameras(root=root)
    assert [c.modes for c in found.devices] == [[]] * 3
    assert [bool(c.failure) for c in found.devices] == [
        True,
        False,
        True,
    ]  # an empty file cannot be opened; a loopback device is skipped


def test_capabilities_are_those_of_the_node() -> None:
    # struct v4l2_capability: a UVC camera's second node, which carries metadata (0x00800000) of a device that captures (0x1)
    data = struct.pack("=16s32s32s6I", b"uvcvideo", b"HD Cam\0rest", b"usb-1", 0x60000, 0x84A00001, 0x04A00000, 0, 0, 0)
    assert len(data) == 104
    driver, name, capabilities = v4l2.read_capability(data)
    assert (driver, name) == ("uvcvideo", "HD Cam") and v4l2.device_type(driver, capabilities) == "other"
    old = struct.pack("=16s32s32s6I", b"old", b"Old", b"", 0, 0x04000001, 0, 0, 0, 0)
    assert v4l2.device_type("old", v4l2.read_capability(old)[2]) == "camera"
    assert v4l2.device_type("v4l2 loopback", 0x5208003) == "virtual" and v4l2.device_type("tegra-video", 0x4200001) == "csi"


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@linux
def test_gpus_come_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(gpus, "NVIDIA_SMI_TIMEOUT_S", 1.0)
    program(
        tmp_path,
        "nvidia-smi",
        "echo 'NVIDIA GeForce RTX 4090, 580.65.06, 8.9, 24564'\necho 'Orin (nvgpu), 540.4.0, [N/A], [N/A]'",
    )
    found = find_gpus(tmp_path)
    assert found.nvidia == [
        NvidiaGpu("NVIDIA GeForce RTX 4090", "580.65.06", "8.9", 24564),
        NvidiaGpu("Orin (nvgpu)", "540.4.0", None, None),
    ]
    assert found.nvidia_failure is None
    program(tmp_path, "nvidia-smi", "echo 'NVIDIA-SMI has failed: no driver'; exit 9")
    assert find_gpus(tmp_path).nvidia_failure == "nvidia-smi: NVIDIA-SMI has failed: no driver"
    program(tmp_path, "nvidia-smi", "exec sleep 60")
    assert find_gpus(tmp_path).nvidia_failure == "nvidia-smi: no answer within 1 s"


@linux
def test_linux_lists_jetsons_render_nodes_and_cards_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    files = {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "dev/dri/renderD128": "",
        "sys/class/drm/renderD128/device/vendor": "0x8086\n",
        "sys/drivers/xe/there": "",
        "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "sys/class/drm/renderD128/device/driver").symlink_to(tmp_path / "sys/drivers/xe")
    found = find_gpus(tmp_path)
    assert found.jetson == "NVIDIA Jetson Orin Nano Developer Kit, L4T 36.4.3" and found.nvidia_failure is None
    (node,) = found.render_nodes
    assert (node.maker, node.driver, node.accessible) == ("Intel", "xe", True)
    (tmp_path / "etc/nv_tegra_release").unlink()
    (tmp_path / "proc/device-tree/model").unlink()
    found = find_gpus(tmp_path)
    assert found.jetson is None and "no driver for it" in str(found.nvidia_failure)


@linux
def test_a_display_that_does_not_exist_is_a_window_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":97")
    found = find_opencv({"cv2": ["opencv-python"]})
    if found.gui is None:
        pytest.skip("this build of OpenCV has no windows")
    assert found.display == "DISPLAY=:97" and not found.window and found.window_failure


def test_an_encoder_works_if_it_outputs_packets() -> None:
    assert try_encoders(["libx264"]) == [EncoderFacts("libx264", "h264", None, True, None)]
    listed = [name for _, name in known_encoders() if name in av.codecs_available]
    (broken,) = try_encoders([next(name for _, name in known_encoders() if name not in listed)])
    assert not broken.works and broken.failure


# The problems of machines that no test runs on.


def library(name: str, packages: list[str], *devices: Device, failure: str | None = None) -> Library:
    return Library(name, bool(packages), "1.0" if packages else None, packages, failure, list(devices), INSTALL[name])


OPENVINO = library("openvino", ["openvino 1.0"], Device("CPU", "a CPU", ["fp32"], True, None))
RUNTIME = library("onnxruntime", ["onnxruntime 1.0"], Device("CPUExecutionProvider", "", [], True, None))
NO_GPU = Gpus([], None, None, [])


def roomy(cache_gib: int = 9, outputs_gib: int = 9) -> System:
    """Describes this machine, with this much free space on its disks."""
    here = describe_system()
    cache, outputs = (
        replace(folder, free_bytes=gib << 30) for folder, gib in ((here.cache, cache_gib), (here.outputs, outputs_gib))
    )
    return replace(here, cache=cache, outputs=outputs, cache_bytes=5 << 20)


def problems(
    found: Gpus = NO_GPU,
    engines: tuple[Library, ...] = (OPENVINO, RUNTIME),
    video: Codecs | None = None,
    opencv: OpenCv | None = None,
    cameras: Cameras | None = None,
    system: System | None = None,
) -> list[Problem]:
    """Finds the problems of a machine that is complete except for the arguments."""
    names = {engine.name for engine in engines}
    rest = (library(name, []) for name in ("openvino", "onnxruntime", "webgpu", "tensorrt", "tensorrt-rtx") if name not in names)
    encoders = [EncoderFacts(encoder.name, codec, None, True, None) for codec, encoder in ENCODERS.items()]
    whole = OpenCv("5.0", ["opencv-python 5.0"], None, {}, "QT5", None, False, "no display")
    return list(
        find_problems(
            system or roomy(),
            found,
            [*engines, *rest],
            library("torch", []),
            video or Codecs("18", "8", {}, None, encoders, []),
            opencv or whole,
            cameras or Cameras([], None, None),
        )
    )


def test_missing_options_are_no_problem() -> None:
    assert problems() == []
    assert problems(engines=(OPENVINO,)) == []
    beside = library("tensorrt", ["tensorrt 10.3"], failure="libcuda.so.1: cannot open shared object file")
    assert problems(engines=(OPENVINO, beside)) == []  # useless without a GPU anyway


def test_a_disk_that_is_nearly_full_is_a_problem() -> None:
    full = roomy(cache_gib=1)
    (problem,) = problems(system=full)
    assert problem.what == f"1.0 GiB free in {full.cache.path}" and not problem.broken
    empty, look = problem.fix.splitlines()
    assert empty.startswith(f"rm -r {full.cache.path}    # compiled models, 5 MiB") and look.startswith("df -h")
    (problem,) = problems(system=replace(roomy(outputs_gib=0), cache_bytes=0))
    assert problem.what == f"0.0 GiB free in {full.outputs.path}" and problem.fix.startswith("df -h")


def test_a_timeout_is_not_called_broken() -> None:
    late = "no answer within 120 s"  # a busy machine, or a slow disk
    slow = library("openvino", ["openvino 1.0"], Device("CPU", "a CPU", ["fp32"], False, late))
    for engine in (slow, library("openvino", ["openvino 1.0"], failure=late)):
        (problem,) = problems(engines=(engine,))
        assert late in problem.what and problem.fix.startswith("cyclecast doctor ") and not problem.broken


@pytest.mark.parametrize(
    ("capability", "line"),
    [("8.9", "pip install 'cyclecast[tensorrt-rtx]'"), ("9.0", "pip install 'cyclecast[tensorrt]'")],
    ids=["RTX 4090", "H100"],
)
def test_an_unused_nvidia_gpu_names_the_engine_to_install(capability: str, line: str) -> None:
    found = Gpus([NvidiaGpu("a GPU", "580", capability, 24000)], None, None, [])
    (problem,) = problems(found)
    assert (problem.fix, problem.broken) == (line, False)
    used = library("tensorrt", ["tensorrt 10.3"], Device("cuda:0", "a GPU", [], None, None))
    assert problems(found, (OPENVINO, used)) == []
    half = Device("CUDAExecutionProvider", "", [], False, "libcublasLt.so.13: cannot open shared object file")
    (problem,) = problems(found, (OPENVINO, library("onnxruntime", ["onnxruntime-gpu 1.31"], half)))
    assert "libcublasLt.so.13" in problem.what and problem.fix.startswith("pip install 'onnxruntime-gpu[cuda,cudnn]'")


def test_a_jetson_gets_tensorrt_from_its_system_packages() -> None:
    (problem,) = problems(Gpus([], None, "NVIDIA Jetson Orin Nano, L4T 36.4.3", []))
    apt, pip = problem.fix.splitlines()
    assert apt.startswith("sudo apt install nvidia-jetpack") and pip == "pip install 'cuda-bindings>=12.6,<13'"


def test_an_intel_gpu_that_openvino_does_not_find() -> None:
    (problem,) = problems(Gpus([], None, None, [gpus.RenderNode("/dev/dri/renderD128", "Intel", "i915", True)]))
    assert problem.fix == "sudo apt install intel-opencl-icd"


def test_an_amd_gpu_needs_webgpu_and_a_vulkan_driver() -> None:
    found = Gpus([], None, None, [gpus.RenderNode("/dev/dri/renderD128", "AMD", "amdgpu", True)])
    (problem,) = problems(found)
    assert problem.fix == "pip install 'cyclecast[webgpu]'"
    package, gpu = ["onnxruntime-ep-webgpu 0.4.0"], Device("gpu", "", [], False, "webgpu finds no GPU with a Vulkan driver")
    (problem,) = problems(found, (OPENVINO, library("webgpu", package, gpu)))
    assert problem.fix.endswith("mesa-vulkan-drivers") and "no GPU with a Vulkan driver" in problem.what
    assert problems(found, (OPENVINO, library("webgpu", package, replace(gpu, works=True, failure=None)))) == []


def test_two_packages_of_opencv_are_a_problem() -> None:
    both = OpenCv("5.0", ["opencv-python 5.0", "opencv-python-headless 5.0"], None, {}, None, None, False, "no windows")
    (problem,) = problems(opencv=both)
    assert (
        problem.fix == "pip uninstall -y opencv-python opencv-python-headless\npip install opencv-python" and not problem.broken
    )


def test_a_csi_camera_needs_gstreamer() -> None:
    sensor = Cameras([Camera("/dev/video0", "vi-output, imx219", "csi", None, None)], False, None)
    without = OpenCv("5.0", ["opencv-python 5.0"], None, {"gstreamer": False}, "QT5", None, False, "no display")
    (problem,) = problems(cameras=sensor, opencv=without)
    assert "python3-opencv" in problem.fix and not problem.broken
    assert problems(cameras=sensor, opencv=replace(without, features={"gstreamer": True})) == []


def test_a_build_of_ffmpeg_without_x264_is_a_problem() -> None:
    encoders = [EncoderFacts(encoder.name, codec, None, codec != "h264", None) for codec, encoder in ENCODERS.items()]
    (problem,) = problems(video=Codecs("18", "8", {}, None, encoders, []))
    assert problem.broken and "libx264 (h264)" in problem.what
