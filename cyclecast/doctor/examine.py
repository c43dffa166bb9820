"""What this machine has for cyclecast, and the line to type for each gap.

It works where the libraries do not: all of them load in processes of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import cyclecast
from cyclecast.doctor import libraries as installed
from cyclecast.doctor.codecs import Codecs, find_codecs
from cyclecast.doctor.gpus import Gpus, find_gpus
from cyclecast.doctor.libraries import Device, Library, Owners
from cyclecast.isolated import TIMED_OUT
from cyclecast.runtime.machine import RTX_TARGETS, System, describe_system
from cyclecast.video.cameras import Cameras, find_cameras
from cyclecast.video.files.codecs import av_requirement
from cyclecast.video.files.encoders import ENCODERS
from cyclecast.video.opencv import OpenCv, find_opencv

AT_ONCE = 4  # things looked at


@dataclass(frozen=True)
class Problem:
    """A gap that matters here."""

    what: str
    fix: str
    """The lines to type, one after the other."""
    broken: bool
    """Something that should work does not; otherwise it could be better."""


@dataclass(frozen=True)
class Health:
    """All facts, and what follows from them."""

    cyclecast: str
    system: System
    gpus: Gpus
    engines: list[Library]
    """Those of `--engine`."""
    torch: Library
    video: Codecs
    opencv: OpenCv
    cameras: Cameras
    problems: list[Problem]

    @property
    def broken(self) -> bool:
        return any(problem.broken for problem in self.problems)


def examine(cameras: bool = True) -> Health:
    """Looks at everything: some seconds of trying things in other processes, each of which may hang or crash.

    cameras: open them and measure what they deliver.
    """
    system = describe_system()  # first of all: what is tried may fill the cache
    owners = metadata.packages_distributions()
    finders = (installed.find_openvino, installed.find_onnxruntime, installed.find_tensorrt, installed.find_tensorrt_rtx)
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        video, gpus = pool.submit(find_codecs), pool.submit(find_gpus)
        engines = [pool.submit(find, owners) for find in finders]
        torch, opencv = pool.submit(find_torch, owners), pool.submit(find_opencv, owners)
        here = [engine.result() for engine in engines]
        known = (system, gpus.result(), here, torch.result(), video.result(), opencv.result())
    finally:
        pool.shutdown(cancel_futures=True)
    facts = (*known, find_cameras(measure=cameras))  # by themselves: on a busy machine they would seem to be slow
    return Health(cyclecast.__version__, *facts, list(find_problems(*facts)))


def find_torch(owners: Owners) -> Library:
    """PyTorch, which `train` and `export` need, and what it computes on."""

    def devices(found: dict[str, Any]) -> list[Device]:
        return [Device(name, description, [], None, None) for name, description in found["devices"]]

    return installed.look("torch", ["torch"], owners, torch_facts, devices)


def torch_facts(module: str) -> dict[str, Any]:
    """{version, devices: (name, description)}."""
    import torch

    devices = [(f"cuda:{index}", torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append(("mps", "Apple GPU"))
    return {"version": torch.__version__, "devices": [("cpu", ""), *devices]}


def find_problems(
    system: System, gpus: Gpus, engines: list[Library], torch: Library, video: Codecs, opencv: OpenCv, cameras: Cameras
) -> Iterator[Problem]:
    """What is worth typing something for, the worst first in each part."""
    yield from _of_engines(gpus, engines, torch)
    yield from _of_gpus(gpus, engines)
    yield from _of_video(video, opencv)
    yield from _of_cameras(cameras, opencv)
    yield from _of_disks(system)


def _of_disks(system: System) -> Iterator[Problem]:
    cache = system.cache
    if not cache.writable:
        what = f"{cache.path} cannot be written: models are compiled again each time"
        yield Problem(what, "export XDG_CACHE_HOME=/a/folder/that/can", False)
    low = [folder for folder in (cache, system.outputs) if folder.full]
    if low:
        what = f"{low[0].free_bytes / 2**30:.1f} GiB free in {' and '.join(folder.path for folder in low)}"
        empty = f"rm -r {cache.path}    # compiled models, {system.cache_bytes >> 20} MiB; made again when they are needed\n"
        yield Problem(what, (empty if system.cache_bytes else "") + "df -h    # which disk has room? work there", False)


def _of_engines(gpus: Gpus, engines: list[Library], torch: Library) -> Iterator[Problem]:
    by_name = {engine.name: engine for engine in engines}
    runtime = by_name["onnxruntime"]
    if len(runtime.packages) > 1:
        names = [package.split()[0] for package in runtime.packages]
        what = f"{' and '.join(names)} are both installed: they are one module, and overwrite each other's files"
        again = installed.INSTALL["onnxruntime on NVIDIA" if gpus.has_nvidia and not gpus.jetson else "onnxruntime"]
        yield Problem(what, f"pip uninstall -y {' '.join(names)}\n{again}", True)
    for library in (*engines, torch):
        matters = gpus.has_nvidia or not library.name.startswith("tensorrt")
        if _silent(library.failure):
            yield _ask_again(library.name, library.failure)
        elif library.failure is not None and matters and len(library.packages) < 2:
            package = library.packages[0].split()[0] if library.packages else library.name
            fix = f"pip install --force-reinstall {package}"
            yield Problem(f"{library.name} is installed, but cannot be loaded: {library.failure}", fix, True)
    for device in by_name["openvino"].devices:
        if _silent(device.failure):
            yield _ask_again(f"openvino on {device.name}", device.failure)
        elif device.works is False:
            fix = "pip install --upgrade openvino" if device.name == "CPU" else "sudo apt install intel-opencl-icd"
            yield Problem(f"openvino fails on {device.name}: {device.failure}", fix, device.name == "CPU")
    if not any(engine.runs or _may_run(engine) for engine in engines):  # one that gave no answer might
        again = "pip install --force-reinstall openvino" if by_name["openvino"].installed else installed.INSTALL["openvino"]
        yield Problem("no engine works: nothing can be converted", again, True)
    elif not by_name["openvino"].installed and not gpus.jetson:
        yield Problem("openvino, by far the quickest engine on a CPU, is not installed", installed.INSTALL["openvino"], False)


def _of_gpus(gpus: Gpus, engines: list[Library]) -> Iterator[Problem]:
    if gpus.nvidia_failure is not None:
        yield Problem(gpus.nvidia_failure, "sudo ubuntu-drivers install    # or from https://www.nvidia.com/drivers", False)
    if gpus.has_nvidia and not any(_uses_nvidia(engine) for engine in engines):
        failures = {f"{engine.name}: {_why_not_nvidia(engine)}" for engine in engines if _why_not_nvidia(engine)}
        why = f" ({'; '.join(sorted(failures))})" if failures else ""
        yield Problem(f"no engine here can use the NVIDIA GPU{why}", _line_for_nvidia(gpus, engines), False)
    for node in gpus.render_nodes:
        if not node.accessible:
            yield Problem(f"no permission for {node.path} ({node.maker})", _join_group("render"), False)
    openvino = next(engine for engine in engines if engine.name == "openvino")
    intel = any(node.maker == "Intel" and node.accessible for node in gpus.render_nodes)
    if intel and openvino.loads and not any(device.name.startswith("GPU") for device in openvino.devices):
        yield Problem(
            "openvino does not see the Intel GPU: its compute driver is missing", "sudo apt install intel-opencl-icd", False
        )


def _of_video(video: Codecs, opencv: OpenCv) -> Iterator[Problem]:
    if _silent(video.failure):
        yield _ask_again("PyAV", video.failure)
    elif video.failure is not None:
        yield Problem(f"PyAV cannot be loaded: {video.failure}", f"pip install --force-reinstall '{av_requirement()}'", True)
    else:
        works = {encoder.name for encoder in video.encoders if encoder.works or _silent(encoder.failure)}
        absent = [f"{encoder.name} ({codec})" for codec, encoder in ENCODERS.items() if encoder.name not in works]
        if absent:
            what = f"this build of FFmpeg does not encode with {', '.join(absent)}; PyAV's wheels do"
            yield Problem(what, f"pip install --force-reinstall --only-binary av '{av_requirement()}'", True)
    if len(opencv.packages) > 1:
        names = [package.split()[0] for package in opencv.packages]
        what = f"{' and '.join(names)} are installed together: they are one module, and overwrite each other's files"
        yield Problem(what, f"pip uninstall -y {' '.join(names)}\npip install opencv-python", opencv.failure is not None)
    elif _silent(opencv.failure):
        yield _ask_again("OpenCV", opencv.failure)
    elif opencv.failure is not None:
        system = "shared object" in opencv.failure  # what opencv-python wants of a bare Debian or Ubuntu
        fix = "sudo apt install libgl1 libglib2.0-0" if system else "pip install --force-reinstall opencv-python"
        yield Problem(f"OpenCV cannot be loaded: {opencv.failure}", fix, True)
    elif opencv.display is not None and not opencv.window and not _silent(opencv.window_failure):
        other = "" if opencv.gui or not opencv.packages else f"pip uninstall -y {opencv.packages[0].split()[0]}\n"
        fix = f"{other}pip install --force-reinstall opencv-python"
        yield Problem(f"no window opens: {opencv.window_failure}", fix, False)


def _of_cameras(cameras: Cameras, opencv: OpenCv) -> Iterator[Problem]:
    for group in sorted({camera.needs_group for camera in cameras.devices if camera.needs_group}):
        closed = [camera.source for camera in cameras.devices if camera.needs_group == group]
        yield Problem(f"no permission for {', '.join(closed)}", _join_group(group), False)
    for camera in cameras.devices:
        if camera.failure is not None and not camera.needs_group:
            what = f"{camera.source} ({camera.name}): {camera.failure}"
            who = f"fuser -v {camera.source}    # " if camera.source.startswith("/") else "# "
            yield Problem(what, f"{who}which program has it? else plug it in again", False)
    if any(camera.kind == "csi" for camera in cameras.devices) and opencv.features.get("gstreamer") is False:
        fix = (
            "pip uninstall -y opencv-python\nsudo apt install python3-opencv    # use a venv with --system-site-packages\n"
            "pip install 'numpy<2'    # which the system's OpenCV was built against"
        )
        yield Problem("CSI cameras need an OpenCV with GStreamer, which PyPI's has not", fix, False)
    if cameras.pyvirtualcam is not None and cameras.loopback is False:
        fix = "sudo apt install v4l2loopback-dkms\nsudo modprobe v4l2loopback exclusive_caps=1 card_label=cyclecast"
        yield Problem("pyvirtualcam has no virtual camera to write to: v4l2loopback is not loaded", fix, False)


def _may_run(engine: Library) -> bool:
    """It was not tried on a device because that takes long, or has not answered in time."""
    untried = engine.name == "tensorrt" and any(device.works is None for device in engine.devices)
    return untried or _silent(engine.failure) or any(_silent(device.failure) for device in engine.devices)


def _silent(failure: str | None) -> bool:
    """It took too long, which a busy machine or a slow disk explains as well as a fault."""
    return failure is not None and failure.startswith(TIMED_OUT)


def _ask_again(what: str, failure: str | None) -> Problem:
    return Problem(f"{what}: {failure}; the machine may be busy", "cyclecast doctor    # again, when it has less to do", False)


def _on_nvidia(engine: Library) -> list[Device]:
    return [device for device in engine.devices if device.name.startswith(("cuda", "CUDA", "Tensorrt", "NvTensorRT"))]


def _uses_nvidia(engine: Library) -> bool:
    return any(device.works is not False for device in _on_nvidia(engine))


def _why_not_nvidia(engine: Library) -> str | None:
    return engine.failure or next((device.failure for device in _on_nvidia(engine) if device.failure), None)


def _line_for_nvidia(gpus: Gpus, engines: list[Library]) -> str:
    """What makes the GPU usable with the least to install; of an engine that is half there, what it lacks."""
    if gpus.jetson:
        bindings = "cuda-bindings>=12.6" + (",<13" if "L4T 36" in gpus.jetson else "")  # 13 needs a driver that JetPack 6 has not
        return f"sudo apt install nvidia-jetpack    # TensorRT; use a venv with --system-site-packages\npip install '{bindings}'"
    runtime = next(engine for engine in engines if engine.name == "onnxruntime")
    if any(package.startswith("onnxruntime-gpu") for package in runtime.packages):
        return "pip install 'onnxruntime-gpu[cuda,cudnn]'    # CUDA's libraries"
    rtx = any(gpu.sm in RTX_TARGETS for gpu in gpus.nvidia)
    return installed.INSTALL["tensorrt-rtx" if rtx else "tensorrt"]


def _join_group(group: str) -> str:
    return f"sudo usermod -aG {group} $USER    # then log in again"
