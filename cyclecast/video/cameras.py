"""Cameras: which there are, how to open one so that it is quick, and what it really delivers."""

from __future__ import annotations

import os
import platform
import re
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclecast.errors import InputError
from cyclecast.isolated import call

if TYPE_CHECKING:
    import cv2

SECONDS = 10.0  # that a camera may take to open and to deliver; OpenCV itself would wait as long for one frame
SIZES = ((640, 480), (1280, 720), (1920, 1080))  # that cameras are asked for; they give the nearest that they have
PROBED = 4  # indices, where the system keeps no list
VIDIOC_QUERYCAP = 0x80685600  # _IOR('V', 0, struct v4l2_capability), linux/videodev2.h
CAPTURES = 0x1 | 0x1000  # V4L2_CAP_VIDEO_CAPTURE, and its multi-planar form
DEVICE_CAPS = 0x80000000  # V4L2_CAP_DEVICE_CAPS: what this node can do is told apart from what the whole device can
LOOPBACK = "v4l2 loopback"
SENSORS = ("tegra-video", "unicam", "rp1-cfe")  # drivers of CSI ports, which give a sensor's raw values


@dataclass(frozen=True)
class Mode:
    """What a camera was measured to deliver."""

    width: int
    height: int
    format: str
    """MJPG, YUYV, …; empty where the system does not say."""
    fps: float
    """Frames that came while it was watched, over the time; 0 if only one did."""
    stated_fps: float
    """What the driver says, which need not be true."""
    first_frame_seconds: float
    """From opening it to the first picture."""


@dataclass(frozen=True)
class Camera:
    """A video device of the system's."""

    source: str
    """As `live` takes it: /dev/video0, or an index."""
    name: str
    kind: str
    """camera; csi: a sensor on a board's own port, which GStreamer opens; virtual: a loopback that programs write into; other: no
    pictures come from it; unknown: it was not opened."""
    failure: str | None
    """Why no picture could be had."""
    needs_group: str | None
    """The group that this user would have to be in to open it."""
    modes: list[Mode]
    """What it gave of `SIZES`, each once; empty if it was not opened."""


@dataclass(frozen=True)
class Cameras:
    """Those of the machine, and what virtual ones need."""

    devices: list[Camera]
    loopback: bool | None
    """Linux's module v4l2loopback is loaded; None on other systems."""
    pyvirtualcam: str | None
    """Its version, if it is installed."""


def find_cameras(measure: bool = True, root: Path = Path("/")) -> Cameras:
    """The system's video devices; measure: each camera is opened, in a process of its own, one after the other.

    root: where Linux's /dev and /sys are looked for.
    """
    linux = platform.system() == "Linux"
    loopback = (root / "sys/module/v4l2loopback").exists() if linux else None
    try:
        pyvirtualcam: str | None = metadata.version("pyvirtualcam")
    except metadata.PackageNotFoundError:
        pyvirtualcam = None
    devices = _linux_devices(root) if linux else []
    if measure:
        devices = [_measured(camera) for camera in _described(devices)] if linux else _probed()
    return Cameras(devices, loopback, pyvirtualcam)


def measure_camera(
    source: str | int, size: tuple[int, int] | None = None, seconds: float = 0.5, time_out: float = SECONDS
) -> Mode:
    """Opens a camera, an address or a file in a process of its own and watches it for `seconds`.

    size: (width, height) to ask for; None: its own. InputError if it cannot be opened, gives no picture, or does not answer
    within `time_out`.
    """
    found = call(watch, source, size, seconds, seconds=time_out)
    if found.failure:
        raise InputError(f"{source}: {found.failure}")
    return Mode(**found.value)


def open_capture(source: str | int) -> cv2.VideoCapture:
    """OpenCV's capture of an index, a device or an address, asked for MJPG first. InputError if it does not open.

    Most cameras send YUYV unless they are asked, which is too much for USB at more than a few frames per second.
    """
    os.environ.setdefault("OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS", "0")  # with them, Windows takes 20 s to open a camera
    import cv2

    own = {"Linux": [cv2.CAP_V4L2], "Darwin": [cv2.CAP_AVFOUNDATION], "Windows": [cv2.CAP_DSHOW, cv2.CAP_MSMF]}
    device = isinstance(source, int) or bool(re.fullmatch(r"/dev/video\d+", source))
    for system in own.get(platform.system(), [cv2.CAP_ANY]) if device else [cv2.CAP_ANY]:
        capture = cv2.VideoCapture(source, system)
        if capture.isOpened():
            break
    else:
        raise InputError("cannot be opened" + (_why_closed(source) if device else ""))
    if device:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    return capture


def _why_closed(source: str | int) -> str:
    """What keeps a device from being opened, as the end of a sentence."""
    node = Path(f"/dev/video{source}" if isinstance(source, int) else source)
    if platform.system() == "Linux" and not node.exists():
        return f": there is no {node}; `cyclecast doctor` lists what there is"
    if platform.system() == "Linux" and not _may_open(node):
        group = _group(node)
        return f": it belongs to group {group}, and this user does not; sudo usermod -aG {group} $USER, then log in again"
    return "; another program may be using it"


def watch(source: str | int, size: Sequence[int] | None, seconds: float) -> dict[str, Any]:
    """A `Mode` as a dict. InputError if no picture comes. May block for as long as the camera does."""
    import cv2

    started = time.perf_counter()
    capture = open_capture(source)
    for key, value in zip((cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT), size or (), strict=False):
        capture.set(key, value)
    got, picture = capture.read()
    if not got or picture is None:
        raise InputError("opens, but gives no picture; another program may be using it")
    first = last = time.perf_counter()
    frames = 0
    while last - first < seconds and capture.grab():
        frames, last = frames + 1, time.perf_counter()
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = bytes(code >> shift & 0xFF for shift in (0, 8, 16, 24)) if code > 0 else b""
    return {
        "width": picture.shape[1],
        "height": picture.shape[0],
        "format": letters.decode("ascii", "replace").strip("\0 ") if letters.isascii() else "",
        "fps": frames / (last - first) if frames else 0.0,
        "stated_fps": capture.get(cv2.CAP_PROP_FPS),
        "first_frame_seconds": first - started,
    }


def query_nodes(nodes: Sequence[str]) -> list[tuple[str, str, int] | None]:
    """Driver, name and capabilities of each V4L2 node, as VIDIOC_QUERYCAP tells; None where it does not."""
    import fcntl

    found: list[tuple[str, str, int] | None] = []
    for node in nodes:
        try:
            descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK)
            try:
                found.append(read_capability(fcntl.ioctl(descriptor, VIDIOC_QUERYCAP, bytes(104))))
            finally:
                os.close(descriptor)
        except OSError:
            found.append(None)
    return found


def read_capability(data: bytes) -> tuple[str, str, int]:
    """Driver, name and this node's capabilities of a `struct v4l2_capability`, 104 bytes."""
    driver, card, _, _, whole, node, *_ = struct.unpack("=16s32s32s6I", data)
    texts = [text.split(b"\0")[0].decode("utf-8", "replace") for text in (driver, card)]
    return texts[0], texts[1], node if whole & DEVICE_CAPS else whole


def kind_of(driver: str, capabilities: int) -> str:
    """A node's `Camera.kind`."""
    if driver == LOOPBACK:
        return "virtual"
    if not capabilities & CAPTURES:
        return "other"
    return "csi" if driver in SENSORS else "camera"


def _linux_devices(root: Path) -> list[Camera]:
    """Every /dev/video*, unopened, in the order of their numbers."""
    nodes = [node for node in (root / "dev").glob("video*") if node.name[5:].isdigit()]
    found = []
    for node in sorted(nodes, key=lambda node: int(node.name[5:])):
        device = root / "sys/class/video4linux" / node.name
        try:
            name = (device / "name").read_text("utf-8", "replace").strip()
        except OSError:
            name = node.name
        virtual = "virtual" in Path(os.path.realpath(device)).parts
        group = None if _may_open(node) else _group(node)
        failure = f"no permission: it belongs to group {group}" if group else None
        found.append(Camera(str(node), name, "virtual" if virtual else "unknown", failure, group, []))
    return found


def _described(cameras: list[Camera]) -> list[Camera]:
    """What kind each one is; all are asked in one other process."""
    asked = [camera.source for camera in cameras if camera.failure is None]
    answers = call(query_nodes, asked, seconds=SECONDS) if asked else None
    known = dict(zip(asked, answers.value, strict=True)) if answers and answers.value else {}
    out = []
    for camera in cameras:
        if known.get(camera.source):
            driver, name, capabilities = known[camera.source]
            camera = replace(camera, name=name or camera.name, kind=kind_of(driver, capabilities))
        out.append(camera)
    return out


def _measured(camera: Camera) -> Camera:
    if camera.failure is not None or camera.kind in ("csi", "virtual", "other"):
        return camera
    source = int(camera.source) if camera.source.isdigit() else camera.source
    modes: dict[tuple[int, int], Mode] = {}
    for size in SIZES:
        try:
            mode = measure_camera(source, size)
        except InputError as error:
            if not modes:
                return replace(camera, failure=str(error).removeprefix(f"{camera.source}: "))
            break  # one that stops answering is not asked again
        modes.setdefault((mode.width, mode.height), mode)
    return replace(camera, kind="camera", modes=list(modes.values()))


def _probed() -> list[Camera]:
    """The indices that open, where only trying tells."""
    tried = [_measured(Camera(str(index), f"camera {index}", "unknown", None, None, [])) for index in range(PROBED)]
    return [camera for camera in tried if "cannot be opened" not in (camera.failure or "")]


def _may_open(node: Path) -> bool:
    return os.access(node, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _group(node: Path) -> str:
    import grp

    number = node.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
