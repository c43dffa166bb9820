"""A virtual camera, which other programs use like a real one: v4l2loopback on Linux, that of OBS on macOS and Windows."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np

from cyclecast.errors import OutputError
from cyclecast.video.cameras import list_video_devices
from cyclecast.video.frame import Image
from cyclecast.video.live.sinks.sink import MissingSink, SessionControls
from cyclecast.video.live.styling.styled_frame import StyledFrame
from cyclecast.video.resize import letterbox

NOMINAL_FPS = 30  # that the camera announces to other programs
OBS_ADVICE = "install OBS Studio (obsproject.com), and start and stop its virtual camera there once"


class VirtualCamera:
    """Sends frames to a virtual camera: `virtual`, or `virtual:///dev/video10` for a certain one.

    The first frame sets the size, less a row or column where it is odd; later frames are scaled into it. backend: one of
    pyvirtualcam's; None: the system's. Raises OutputError if pyvirtualcam or, on Linux, the device is missing; on other systems a
    missing camera is found at the first frame.
    """

    name = "virtual camera"

    def __init__(self, address: str, controls: SessionControls, backend: str | None = None) -> None:
        self._address, self._controls, self._backend = address, controls, backend
        self._device = address.partition("://")[2] or None
        self._pyvirtualcam = load_pyvirtualcam()
        missing = find_camera_problem(self._device) if backend is None and platform.system() == "Linux" else None
        if missing is not None:
            raise MissingSink(f"{address}: {missing}")
        self._camera: Any = None
        self._size = (0, 0)

    def show(self, frame: StyledFrame) -> None:
        """Sends one frame. Raises OutputError if the camera cannot be opened or refuses it."""
        image = frame.image
        try:
            if self._camera is None:
                self._open(image)
            self._camera.send(fit_to(image, self._size))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            advice = "" if platform.system() == "Linux" else f"; {OBS_ADVICE}"
            raise OutputError(f"{self._address}: {reason}{advice}") from error

    def _open(self, image: Image) -> None:
        height, width = image.shape[:2]
        self._size = width, height = (
            width - width % 2,
            height - height % 2,
        )  # 4:2:0 video has even sizes
        bgr = self._pyvirtualcam.PixelFormat.BGR
        self._camera = self._pyvirtualcam.Camera(width, height, NOMINAL_FPS, fmt=bgr, device=self._device, backend=self._backend)
        self._controls.report(f"virtual camera: {self._camera.device}, {width}x{height}")

    def idle(self) -> None:
        """Does nothing: a virtual camera keeps its last frame."""

    def close(self) -> None:
        """Closes the camera."""
        if self._camera is not None:
            self._camera.close()


def fit_to(image: Image, size: tuple[int, int]) -> Image:
    """Returns the image at (width, height): without its last row or column if that is enough, or else scaled to fit."""
    height, width = image.shape[:2]
    if (width - width % 2, height - height % 2) == size:
        return np.ascontiguousarray(image[: size[1], : size[0]])
    return letterbox(image, size)


def load_pyvirtualcam() -> Any:
    """Imports pyvirtualcam. Raises OutputError with the line to type if it is not installed."""
    try:
        import pyvirtualcam
    except ModuleNotFoundError as error:
        raise MissingSink("pyvirtualcam is not installed: pip install 'cyclecast[live]'") from error
    except ImportError as error:
        raise MissingSink(f"pyvirtualcam cannot be loaded: {error}") from error
    return pyvirtualcam


def find_camera_problem(device: str | None, root: Path = Path("/")) -> str | None:
    """Returns why this Linux has no virtual camera for us, and what to type; None if it has one. root: of /dev and /sys."""
    cameras = [camera for camera in list_video_devices(root) if camera.kind == "virtual"]
    wanted = [camera for camera in cameras if device in (None, camera.source)]
    if any(camera.failure is None for camera in wanted):
        return None
    if wanted:
        return f"{wanted[0].failure}; type: sudo usermod -aG {wanted[0].needs_group} $USER, and log in again"
    if cameras:
        return f"no virtual camera of that name; there are: {', '.join(camera.source for camera in cameras)}"
    number = (device or "").removeprefix("/dev/video")
    asked = f"video_nr={number} " if number.isdigit() else ""
    command = f"sudo modprobe v4l2loopback {asked}exclusive_caps=1 card_label=cyclecast"
    return f"there is no virtual camera; type: {command} (Debian and Ubuntu have it in the package v4l2loopback-dkms)"
