"""The cameras of this machine, and the sizes and rates that they really deliver."""

from __future__ import annotations

import os
import platform
import struct
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclecast.errors import InputError
from cyclecast.isolated import call
from cyclecast.video.cameras import VideoDevice, fourcc_name, list_video_devices, open_capture

CAMERA_TIMEOUT_S = 10.0  # for a camera to open and to deliver; OpenCV itself would wait as long for one frame
SIZES = ((640, 480), (1280, 720), (1920, 1080))  # requested from each camera, which delivers the nearest that it has
MAX_INDICES = 4  # camera indices to try on systems that keep no list
VIDIOC_QUERYCAP = 0x80685600  # _IOR('V', 0, struct v4l2_capability), linux/videodev2.h
VIDEO_CAPTURE = 0x1 | 0x1000  # V4L2_CAP_VIDEO_CAPTURE, and its multi-planar form
DEVICE_CAPS = 0x80000000  # V4L2_CAP_DEVICE_CAPS: the capabilities of this node differ from those of the whole device
LOOPBACK_DRIVER = "v4l2 loopback"
CSI_DRIVERS = ("tegra-video", "unicam", "rp1-cfe")  # drivers of CSI ports, which deliver the raw values of a sensor


@dataclass(frozen=True)
class Mode:
    """What a camera delivered when it was measured."""

    width: int
    height: int
    format: str
    """MJPG, YUYV, …; empty if the system does not report it."""
    fps: float
    """Frames received during the measurement, over its duration; 0 if only one arrived."""
    stated_fps: float
    """The driver's own figure, which may be wrong."""
    first_frame_seconds: float
    """From opening the camera to the first frame."""


@dataclass(frozen=True)
class Camera(VideoDevice):
    """A video device and its measurements."""

    modes: list[Mode] = field(default_factory=list)
    """What it delivered when asked for `SIZES`, each mode once; empty if it was not opened."""


@dataclass(frozen=True)
class Cameras:
    """All cameras, and what virtual cameras need."""

    devices: list[Camera]
    loopback: bool | None
    """Whether Linux's module v4l2loopback is loaded; None on other systems."""
    pyvirtualcam: str | None
    """Its version, if it is installed."""


def find_cameras(measure: bool = True, root: Path = Path("/")) -> Cameras:
    """Finds the video devices of the system.

    measure: open each camera, one after the other, in a separate process. root: the folder that holds Linux's /dev and /sys.
    """
    is_linux = platform.system() == "Linux"
    loopback = (root / "sys/module/v4l2loopback").exists() if is_linux else None
    try:
        pyvirtualcam: str | None = metadata.version("pyvirtualcam")
    except metadata.PackageNotFoundError:
        pyvirtualcam = None
    devices = [Camera(**asdict(device)) for device in list_video_devices(root)] if is_linux else []
    if measure:
        devices = [measure_modes(camera) for camera in _query_kinds(devices)] if is_linux else _try_indices()
    return Cameras(devices, loopback, pyvirtualcam)


def measure_modes(camera: Camera) -> Camera:
    """Returns the camera with the modes that it delivers, or with the reason why it delivers none."""
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
            break  # a camera that stops answering is not asked again
        modes.setdefault((mode.width, mode.height), mode)
    return replace(camera, kind="camera", modes=list(modes.values()))


def measure_camera(
    source: str | int, size: tuple[int, int] | None = None, seconds: float = 0.5, timeout: float = CAMERA_TIMEOUT_S
) -> Mode:
    """Opens a camera, an address or a file in a separate process and receives frames for `seconds`.

    size: the (width, height) to request; None: the camera's default. Raises InputError if it cannot be opened, delivers no
    frame, or does not answer within `timeout` seconds.
    """
    result = call(receive_frames, source, size, seconds, seconds=timeout)
    if result.failure:
        raise InputError(f"{source}: {result.failure}")
    return Mode(**result.value)


def receive_frames(source: str | int, size: Sequence[int] | None, seconds: float) -> dict[str, Any]:
    """Measures the fields of a `Mode`. Raises InputError if no frame comes. Blocks for as long as the camera does."""
    import cv2

    started = time.perf_counter()
    capture = open_capture(source)
    for key, value in zip((cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT), size or (), strict=False):
        capture.set(key, value)
    received, frame = capture.read()
    if not received or frame is None:
        raise InputError("opens, but delivers no frame; another program may be using it")
    first = last = time.perf_counter()
    frames = 0
    while last - first < seconds and capture.grab():
        frames, last = frames + 1, time.perf_counter()
    return {
        "width": frame.shape[1],
        "height": frame.shape[0],
        "format": fourcc_name(int(capture.get(cv2.CAP_PROP_FOURCC))),
        "fps": frames / (last - first) if frames else 0.0,
        "stated_fps": capture.get(cv2.CAP_PROP_FPS),
        "first_frame_seconds": first - started,
    }


def query_nodes(nodes: Sequence[str]) -> list[tuple[str, str, int] | None]:
    """Reads driver, name and capabilities of each V4L2 node with VIDIOC_QUERYCAP; None where the query fails."""
    import fcntl

    capabilities: list[tuple[str, str, int] | None] = []
    for node in nodes:
        try:
            descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK)
            try:
                capabilities.append(read_capability(fcntl.ioctl(descriptor, VIDIOC_QUERYCAP, bytes(104))))
            finally:
                os.close(descriptor)
        except OSError:
            capabilities.append(None)
    return capabilities


def read_capability(data: bytes) -> tuple[str, str, int]:
    """Reads driver, name and capabilities of a node from its `struct v4l2_capability` of 104 bytes."""
    driver, card, _, _, device_capabilities, node_capabilities, *_ = struct.unpack("=16s32s32s6I", data)
    texts = [text.split(b"\0")[0].decode("utf-8", "replace") for text in (driver, card)]
    return texts[0], texts[1], node_capabilities if device_capabilities & DEVICE_CAPS else device_capabilities


def kind_of(driver: str, capabilities: int) -> str:
    """Returns the `kind` of a V4L2 node."""
    if driver == LOOPBACK_DRIVER:
        return "virtual"
    if not capabilities & VIDEO_CAPTURE:
        return "other"
    return "csi" if driver in CSI_DRIVERS else "camera"


def _query_kinds(cameras: list[Camera]) -> list[Camera]:
    """Returns the cameras with the kinds that their drivers report. One separate process asks all of them."""
    sources = [camera.source for camera in cameras if camera.failure is None]
    result = call(query_nodes, sources, seconds=CAMERA_TIMEOUT_S) if sources else None
    known = dict(zip(sources, result.value, strict=True)) if result and result.value else {}
    out = []
    for camera in cameras:
        if known.get(camera.source):
            driver, name, capabilities = known[camera.source]
            camera = replace(camera, name=name or camera.name, kind=kind_of(driver, capabilities))
        out.append(camera)
    return out


def _try_indices() -> list[Camera]:
    """Finds the camera indices that open, on systems that keep no list."""
    cameras = [measure_modes(Camera(str(index), f"camera {index}", "unknown", None, None)) for index in range(MAX_INDICES)]
    return [camera for camera in cameras if "cannot be opened" not in (camera.failure or "")]
