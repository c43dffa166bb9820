"""What is missing or broken on this machine, and the commands that mend it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cyclecast.doctor.cameras import Cameras
from cyclecast.doctor.codecs import Codecs
from cyclecast.doctor.gpus import Gpus
from cyclecast.doctor.libraries import INSTALL, Device, Library
from cyclecast.doctor.opencv import OpenCv
from cyclecast.isolated import TIMED_OUT
from cyclecast.runtime.machine import RTX_TARGETS, System
from cyclecast.video.files.codecs import av_requirement
from cyclecast.video.files.encoders import ENCODERS


@dataclass(frozen=True)
class Problem:
    """Something that is missing or broken."""

    what: str
    fix: str
    """The commands to type, one a line."""
    broken: bool
    """True: something that should work does not. False: something could work better."""


def find_problems(
    system: System, gpus: Gpus, engines: list[Library], torch: Library, video: Codecs, opencv: OpenCv, cameras: Cameras
) -> Iterator[Problem]:
    """Yields the problems of each part, the worst first."""
    yield from _engine_problems(gpus, engines, torch)
    yield from _gpu_problems(gpus, engines)
    yield from _codec_problems(video)
    yield from _opencv_problems(opencv)
    yield from _camera_problems(cameras, opencv)
    yield from _disk_problems(system)


def _engine_problems(gpus: Gpus, engines: list[Library], torch: Library) -> Iterator[Problem]:
    by_name = {engine.name: engine for engine in engines}
    onnxruntime, openvino = by_name["onnxruntime"], by_name["openvino"]
    if len(onnxruntime.packages) > 1:
        names = [package.split()[0] for package in onnxruntime.packages]
        what = f"{' and '.join(names)} are both installed; they share one module and overwrite each other's files"
        install = INSTALL["onnxruntime on NVIDIA" if gpus.has_nvidia and not gpus.jetson else "onnxruntime"]
        yield Problem(what, f"pip uninstall -y {' '.join(names)}\n{install}", True)
    for library in (*engines, torch):
        is_relevant = gpus.has_nvidia or not library.name.startswith("tensorrt")
        if _timed_out(library.failure):
            yield _try_again(library.name, library.failure)
        elif library.failure is not None and is_relevant and len(library.packages) < 2:
            package = library.packages[0].split()[0] if library.packages else library.name
            fix = f"pip install --force-reinstall {package}"
            yield Problem(f"{library.name} is installed, but cannot be loaded: {library.failure}", fix, True)
    for device in openvino.devices:
        if _timed_out(device.failure):
            yield _try_again(f"openvino on {device.name}", device.failure)
        elif device.works is False:
            fix = "pip install --upgrade openvino" if device.name == "CPU" else "sudo apt install intel-opencl-icd"
            yield Problem(f"openvino fails on {device.name}: {device.failure}", fix, device.name == "CPU")
    if not any(engine.runs or _may_run(engine) for engine in engines):
        fix = "pip install --force-reinstall openvino" if openvino.installed else INSTALL["openvino"]
        yield Problem("no engine works: nothing can be converted", fix, True)
    elif not openvino.installed and not gpus.jetson:
        yield Problem("openvino, by far the fastest engine on a CPU, is not installed", INSTALL["openvino"], False)


def _gpu_problems(gpus: Gpus, engines: list[Library]) -> Iterator[Problem]:
    if gpus.nvidia_failure is not None:
        yield Problem(gpus.nvidia_failure, "sudo ubuntu-drivers install    # or from https://www.nvidia.com/drivers", False)
    if gpus.has_nvidia and not any(_uses_nvidia(engine) for engine in engines):
        failures = {f"{engine.name}: {_nvidia_failure(engine)}" for engine in engines if _nvidia_failure(engine)}
        reasons = f" ({'; '.join(sorted(failures))})" if failures else ""
        yield Problem(f"no engine here can use the NVIDIA GPU{reasons}", _install_for_nvidia(gpus, engines), False)
    for node in gpus.render_nodes:
        if not node.accessible:
            yield Problem(f"no permission for {node.path} ({node.maker})", _join_group("render"), False)
    openvino, webgpu = (next(engine for engine in engines if engine.name == name) for name in ("openvino", "webgpu"))
    if any(node.maker == "AMD" and node.accessible for node in gpus.render_nodes) and not (webgpu.runs or _may_run(webgpu)):
        failure = webgpu.failure or next((device.failure for device in webgpu.devices), None)
        fix = "sudo apt install libvulkan1 mesa-vulkan-drivers" if webgpu.loads else webgpu.install
        yield Problem(f"no engine here can use the AMD GPU{f' ({failure})' if failure else ''}", fix, False)
    has_intel = any(node.maker == "Intel" and node.accessible for node in gpus.render_nodes)
    if has_intel and openvino.loads and not any(device.name.startswith("GPU") for device in openvino.devices):
        what = "openvino does not find the Intel GPU: its compute driver is missing"
        yield Problem(what, "sudo apt install intel-opencl-icd", False)


def _codec_problems(video: Codecs) -> Iterator[Problem]:
    if _timed_out(video.failure):
        yield _try_again("PyAV", video.failure)
    elif video.failure is not None:
        yield Problem(f"PyAV cannot be loaded: {video.failure}", f"pip install --force-reinstall '{av_requirement()}'", True)
    else:
        works = {encoder.name for encoder in video.encoders if encoder.works or _timed_out(encoder.failure)}
        missing = [f"{encoder.name} ({codec})" for codec, encoder in ENCODERS.items() if encoder.name not in works]
        if missing:
            what = f"this build of FFmpeg cannot encode with {', '.join(missing)}; the one in PyAV's wheels can"
            yield Problem(what, f"pip install --force-reinstall --only-binary av '{av_requirement()}'", True)


def _opencv_problems(opencv: OpenCv) -> Iterator[Problem]:
    if len(opencv.packages) > 1:
        names = [package.split()[0] for package in opencv.packages]
        what = f"{' and '.join(names)} are installed together; they share one module and overwrite each other's files"
        yield Problem(what, f"pip uninstall -y {' '.join(names)}\npip install opencv-python", opencv.failure is not None)
    elif _timed_out(opencv.failure):
        yield _try_again("OpenCV", opencv.failure)
    elif opencv.failure is not None:
        lacks_library = "shared object" in opencv.failure  # opencv-python needs these of a minimal Debian or Ubuntu
        fix = "sudo apt install libgl1 libglib2.0-0" if lacks_library else "pip install --force-reinstall opencv-python"
        yield Problem(f"OpenCV cannot be loaded: {opencv.failure}", fix, True)
    elif opencv.display is not None and not opencv.window and not _timed_out(opencv.window_failure):
        remove = "" if opencv.gui or not opencv.packages else f"pip uninstall -y {opencv.packages[0].split()[0]}\n"
        fix = f"{remove}pip install --force-reinstall opencv-python"
        yield Problem(f"no window can be opened: {opencv.window_failure}", fix, False)


def _camera_problems(cameras: Cameras, opencv: OpenCv) -> Iterator[Problem]:
    for group in sorted({camera.needs_group for camera in cameras.devices if camera.needs_group}):
        sources = [camera.source for camera in cameras.devices if camera.needs_group == group]
        yield Problem(f"no permission for {', '.join(sources)}", _join_group(group), False)
    for camera in cameras.devices:
        if camera.failure is not None and not camera.needs_group:
            what = f"{camera.source} ({camera.name}): {camera.failure}"
            command = f"fuser -v {camera.source}    # " if camera.source.startswith("/") else "# "
            yield Problem(what, f"{command}which program uses it? If none does, plug it in again", False)
    if any(camera.kind == "csi" for camera in cameras.devices) and opencv.features.get("gstreamer") is False:
        fix = (
            "pip uninstall -y opencv-python\nsudo apt install python3-opencv    # use a venv with --system-site-packages\n"
            "pip install 'numpy<2'    # the system's OpenCV was built against it"
        )
        yield Problem("CSI cameras need an OpenCV with GStreamer; the one from PyPI has none", fix, False)
    if cameras.pyvirtualcam is not None and cameras.loopback is False:
        fix = "sudo apt install v4l2loopback-dkms\nsudo modprobe v4l2loopback exclusive_caps=1 card_label=cyclecast"
        yield Problem("there is no virtual camera to write to: v4l2loopback is not loaded", fix, False)


def _disk_problems(system: System) -> Iterator[Problem]:
    cache = system.cache
    if not cache.writable:
        what = f"{cache.path} cannot be written: models are compiled again in each run"
        yield Problem(what, "export XDG_CACHE_HOME=/a/writable/folder", False)
    full = [folder for folder in (cache, system.outputs) if folder.full]
    if full:
        what = f"{full[0].free_bytes / 2**30:.1f} GiB free in {' and '.join(folder.path for folder in full)}"
        clear = f"rm -r {cache.path}    # compiled models, {system.cache_bytes >> 20} MiB; built again when needed\n"
        yield Problem(what, (clear if system.cache_bytes else "") + "df -h    # find a disk with space, and work there", False)


def _may_run(engine: Library) -> bool:
    """Returns whether the engine was not tried on a device, because that takes long, or did not answer in time."""
    untried = engine.name == "tensorrt" and any(device.works is None for device in engine.devices)
    return untried or _timed_out(engine.failure) or any(_timed_out(device.failure) for device in engine.devices)


def _timed_out(failure: str | None) -> bool:
    """Returns whether the failure is a timeout, which may also be due to a busy machine or a slow disk."""
    return failure is not None and failure.startswith(TIMED_OUT)


def _try_again(what: str, failure: str | None) -> Problem:
    return Problem(f"{what}: {failure}; the machine may be busy", "cyclecast doctor    # again, when the machine is idle", False)


def _nvidia_devices(engine: Library) -> list[Device]:
    return [device for device in engine.devices if device.name.startswith(("cuda", "CUDA", "Tensorrt", "NvTensorRT"))]


def _uses_nvidia(engine: Library) -> bool:
    return any(device.works is not False for device in _nvidia_devices(engine))


def _nvidia_failure(engine: Library) -> str | None:
    return engine.failure or next((device.failure for device in _nvidia_devices(engine) if device.failure), None)


def _install_for_nvidia(gpus: Gpus, engines: list[Library]) -> str:
    """Returns the fewest commands that make the GPU usable; for an engine that is partly installed, those for the rest of it."""
    if gpus.jetson:
        limit = ",<13" if "L4T 36" in gpus.jetson else ""  # version 13 needs a newer driver than JetPack 6 has
        bindings = f"cuda-bindings>=12.6{limit}"
        return f"sudo apt install nvidia-jetpack    # TensorRT; use a venv with --system-site-packages\npip install '{bindings}'"
    onnxruntime = next(engine for engine in engines if engine.name == "onnxruntime")
    if any(package.startswith("onnxruntime-gpu") for package in onnxruntime.packages):
        return "pip install 'onnxruntime-gpu[cuda,cudnn]'    # CUDA's libraries"
    has_rtx = any(gpu.sm in RTX_TARGETS for gpu in gpus.nvidia)
    return INSTALL["tensorrt-rtx" if has_rtx else "tensorrt"]


def _join_group(group: str) -> str:
    return f"sudo usermod -aG {group} $USER    # then log in again"
