"""The command `doctor`, about the machine."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from cyclecast.cli.console import JsonOption, console, print_json

if TYPE_CHECKING:
    from cyclecast.doctor.cameras import Camera, Mode
    from cyclecast.doctor.examine import Health
    from cyclecast.doctor.libraries import Library
    from cyclecast.runtime.machine import System

OK, MISSING, ERROR = "ok", "missing", "error"
COLORS = {OK: "green", MISSING: "yellow", ERROR: "bold red"}
GIB, MIB = 2**30, 2**20
SYSTEM_OPENCV = "sudo apt install python3-opencv, and a venv with --system-site-packages"
NOTES = {  # for engines that are not installed
    "webgpu": "    # for a GPU of AMD, Intel or Apple",
    "tensorrt": "    # for an NVIDIA GPU",
    "tensorrt-rtx": "    # for an NVIDIA RTX GPU",
    "torch": "    # to train and export",
    "onnxruntime": "    # a second engine; with an NVIDIA GPU cyclecast[gpu] instead, never both",
}
NO_CAMERA = "no camera found: plug one in, or try cyclecast live pattern://1280x720@30"

Row = tuple[str, str, str]  # mark, name, description


def doctor(
    cameras: Annotated[
        bool, typer.Option("--cameras/--no-cameras", help="Whether to open each camera and measure its modes.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Test the engines, GPUs, encoders and cameras of this machine, and print the command that fixes each problem.

    The exit code is 1 if something is broken.

    Example: cyclecast doctor
    """
    from cyclecast.doctor.examine import examine

    with console.status("testing engines, encoders and cameras"):
        health = examine(cameras)
    if as_json:
        print_json(dataclasses.asdict(health))
    else:
        _print(health)
    if health.broken:
        raise typer.Exit(1)


def _print(health: Health) -> None:
    out = Console(highlight=False, soft_wrap=True)
    parts = {
        "System": _system_rows(health.cyclecast, health.system),
        "GPUs": _gpu_rows(health),
        "Engines": (row for library in (*health.engines, health.torch) for row in _library_rows(library)),
        "Video": _codec_rows(health),
        "OpenCV": _opencv_rows(health),
        "Cameras": _camera_rows(health),
    }
    for heading, rows in parts.items():
        out.print(Text(heading, "bold"))
        for mark, name, description in rows:
            out.print(Text.assemble("  ", (f"{mark:8}", COLORS[mark]), f"{name:14}{description}"))
        out.print()
    out.print(Text("To do", "bold"))
    for problem in health.problems:
        mark = ERROR if problem.broken else MISSING
        out.print(Text.assemble("  ", (f"{mark:8}", COLORS[mark]), problem.what))
        for line in problem.fix.splitlines():
            out.print(Text(f"            {line}"))
    if not health.problems:
        out.print(Text("  nothing"))


def _system_rows(version: str, system: System) -> Iterator[Row]:
    processor, memory = system.processor, system.memory
    yield OK, "cyclecast", f"{version}, Python {system.python} ({system.executable})"
    yield OK, "system", system.os + (f", {system.board}" if system.board else "")
    quota = f", limited to {processor.quota:g}" if processor.quota is not None else ""
    yield OK, "processor", f"{processor.name}, {processor.cores} core{'s' * (processor.cores > 1)}{quota}"
    if processor.instructions is not None:
        yield OK, "", " ".join(processor.instructions) or "without instructions that speed up a network"
    if memory.total_bytes is not None:
        free = f", {memory.available_bytes / GIB:.1f} free" if memory.available_bytes is not None else ""
        yield OK, "memory", f"{memory.total_bytes / GIB:.1f} GiB{free}"
    for name, folder in (("outputs", system.outputs), ("cache", system.cache)):
        size = f", holds {system.cache_bytes / MIB:.0f} MiB" if folder is system.cache else ""
        read_only = "" if folder.writable else ", cannot be written"
        mark = OK if folder.writable and not folder.full else MISSING
        yield mark, name, f"{folder.free_bytes / GIB:.1f} GiB free in {folder.path}{read_only}{size}"


def _gpu_rows(health: Health) -> Iterator[Row]:
    gpus = health.gpus
    for gpu in gpus.nvidia:
        memory = f", {gpu.memory_mib / 1024:.0f} GiB" if gpu.memory_mib else ""
        sm = f", SM {gpu.compute_capability}" if gpu.compute_capability else ""
        yield OK, "nvidia", f"{gpu.name}{sm}{memory}, driver {gpu.driver or '?'}"
    if gpus.jetson:
        yield OK, "jetson", gpus.jetson
    if gpus.nvidia_failure:
        yield ERROR, "nvidia", gpus.nvidia_failure
    for node in gpus.render_nodes:
        permission = "" if node.accessible else ", no permission"
        yield OK if node.accessible else ERROR, node.maker.lower(), f"{node.path}, driver {node.driver or '?'}{permission}"
    if not (gpus.nvidia or gpus.jetson or gpus.nvidia_failure or gpus.render_nodes):
        nodes = " and no render node (/dev/dri)" if platform.system() == "Linux" else "; others are not detected on this system"
        yield MISSING, "none", f"no NVIDIA GPU{nodes}"


def _library_rows(library: Library) -> Iterator[Row]:
    if not library.installed:
        return (yield MISSING, library.name, f"{library.install}{NOTES.get(library.name, '')}")
    version = library.version or "; ".join(library.packages)
    if library.failure is not None:
        return (yield ERROR, library.name, f"{version}: cannot be loaded ({library.failure})")
    if len(library.packages) > 1:
        yield ERROR, library.name, f"{' and '.join(library.packages)} overwrite each other's files"
    else:
        yield OK, library.name, version
    for device in library.devices:
        words = [device.description, " ".join(device.precisions), "ran a frame" if device.works else ""]
        if device.works is False:
            words = [f"does not start ({device.failure})"]
        description = ", ".join(word for word in words if word)
        mark = MISSING if device.works is False else OK
        yield mark, "", f"{device.name}{': ' if description else ''}{description}"


def _codec_rows(health: Health) -> Iterator[Row]:
    video = health.video
    if video.failure is not None:
        return (yield ERROR, "PyAV", f"cannot be loaded ({video.failure})")
    libraries = " ".join(f"{name} {version}" for name, version in video.libraries.items())
    yield OK, "PyAV", f"{video.version} with FFmpeg {video.ffmpeg or '?'}"
    yield OK, "", libraries
    for codec in dict.fromkeys(encoder.codec for encoder in video.encoders):
        works = [encoder.name for encoder in video.encoders if encoder.codec == codec and encoder.works]
        yield OK if works else ERROR, codec, ", ".join(works) or "no encoder works"
    failed: dict[tuple[str, str], list[str]] = {}
    for encoder in video.encoders:
        if not encoder.works:
            failed.setdefault((encoder.hardware or encoder.name, str(encoder.failure)), []).append(encoder.codec)
    for (name, failure), codecs in failed.items():
        yield MISSING, name, f"{', '.join(codecs)}: listed by FFmpeg, but fails ({failure.rstrip('.')})"
    yield OK, "decoders", f"built for {', '.join(video.decoders) or 'software only'} (not tested)"


def _opencv_rows(health: Health) -> Iterator[Row]:
    opencv = health.opencv
    if opencv.failure is not None:
        return (yield ERROR, "OpenCV", f"cannot be loaded ({opencv.failure})")
    mark = ERROR if len(opencv.packages) > 1 else OK
    packages = " and ".join(opencv.packages) or "not from pip"
    yield mark, "OpenCV", f"{opencv.version} ({packages}), windows: {opencv.gui or 'none'}"
    yield OK, "reads with", ", ".join(name for name, present in opencv.features.items() if present) or "nothing known"
    missing = [name for name, present in opencv.features.items() if not present]
    if missing:
        advice = f"; a CSI camera needs gstreamer: {SYSTEM_OPENCV}" if "gstreamer" in missing else ""
        yield MISSING, "", f"{', '.join(missing)}: not in this build{advice}"
    if opencv.window:
        yield OK, "display", f"{opencv.display}, a window opened"
    else:
        advice = "" if opencv.display else "; export DISPLAY=:0 for the machine's own screen, or cyclecast live --sink web"
        yield ERROR if opencv.display and opencv.gui else MISSING, "display", f"{opencv.window_failure}{advice}"


def _camera_rows(health: Health) -> Iterator[Row]:
    cameras = health.cameras
    for camera in cameras.devices:
        if camera.failure is not None:
            yield ERROR, camera.source, f"{camera.name}: {camera.failure}"
        else:
            yield OK, camera.source, f"{camera.name}{'' if camera.modes else describe_type(camera)}"
            for mode in camera.modes:
                yield OK, "", describe_mode(mode)
    if not cameras.devices:
        yield MISSING, "none", NO_CAMERA
    if cameras.loopback is not None:
        loopback = "v4l2loopback is loaded" if cameras.loopback else "v4l2loopback is not loaded"
        yield OK if cameras.loopback else MISSING, "virtual", loopback
    install = "pip install 'cyclecast[live]'    # for a virtual camera that other programs see"
    yield OK if cameras.pyvirtualcam else MISSING, "pyvirtualcam", cameras.pyvirtualcam or install


def describe_type(camera: Camera) -> str:
    """Returns what a camera without modes is, as the end of a line."""
    kinds = {"csi": "a sensor that needs GStreamer", "virtual": "a virtual camera", "other": "delivers no images"}
    return f": {kinds.get(camera.kind, 'not opened')}"


def describe_mode(mode: Mode) -> str:
    """Returns size, format and rates of a measured mode, for people."""
    form = f" {mode.format}" if mode.format else ""
    stated = f" (driver: {mode.stated_fps:g})" if mode.stated_fps > 0 else ""
    return f"{mode.width}x{mode.height}{form}, {mode.fps:.1f} fps{stated}, first frame after {mode.first_frame_seconds:.1f} s"
