"""The cameras of this machine, and the sizes and rates that they really deliver."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclecast.errors import InputError
from cyclecast.isolated import call
from cyclecast.video.cameras import VideoDevice, fourcc_name, list_cameras, list_video_devices, open_capture, query_types

CAMERA_TIMEOUT_S = 10.0  # for a camera to open and to deliver; OpenCV itself would wait as long for one frame
SIZES = ((640, 480), (1280, 720), (1920, 1080))  # requested from each camera, which delivers the nearest that it has
VIRTUAL_TIMEOUT_S = 4.0  # for a virtual camera, which is silent while no program sends to it
MAX_INDICES = 4  # camera indices to try on systems that keep no list


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
    found = list_video_devices(root) if is_linux else list_cameras(root)
    devices = [Camera(**asdict(device)) for device in (query_types(found) if measure and is_linux else found)]
    if measure:
        devices = [measure_modes(camera) for camera in devices] if is_linux or devices else _try_indices()
    return Cameras(devices, loopback, pyvirtualcam)


def find_named_cameras(measure: bool = True, root: Path = Path("/")) -> list[Camera]:
    """Finds everything that delivers frames, virtual cameras included, each under one name. Arguments as `find_cameras`.

    A virtual camera without modes gets no video from another program at the moment.
    """
    cameras = [Camera(**asdict(device)) for device in list_cameras(root)]
    if not measure:
        return cameras
    if not cameras and platform.system() != "Linux":
        return _try_indices()
    return [_measure_virtual(camera) if camera.kind == "virtual" else measure_modes(camera) for camera in cameras]


def _measure_virtual(camera: Camera) -> Camera:
    """Returns a virtual camera with the mode that another program sends, if one does."""
    if camera.failure is not None:
        return camera
    try:
        return replace(camera, modes=[measure_camera(camera.source, timeout=VIRTUAL_TIMEOUT_S)])
    except InputError:
        return camera


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


def _try_indices() -> list[Camera]:
    """Finds the camera indices that open, on systems that keep no list."""
    cameras = [measure_modes(Camera(str(index), f"camera {index}", "unknown", None, None)) for index in range(MAX_INDICES)]
    return [camera for camera in cameras if "cannot be opened" not in (camera.failure or "")]
