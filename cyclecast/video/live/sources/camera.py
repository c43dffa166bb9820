"""Cameras through OpenCV: V4L2, AVFoundation, DirectShow, and those on a board's own port through GStreamer."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cyclecast.errors import InputError
from cyclecast.video.cameras import open_capture
from cyclecast.video.frame import Image
from cyclecast.video.live.sources.address import shown_address
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame

if TYPE_CHECKING:
    import cv2


def open_camera(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """A camera by its index or device, asked for MJPG, for the size and the rate of the wish; it gives what it has.

    InputError if it cannot be opened. The rate is what its driver says; whether that is true is seen when pictures come.
    """
    import cv2

    name = shown_address(address)
    try:
        capture = open_capture(int(address) if address.isdigit() else address)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    # After the format, and the rate last: V4L2 chooses among those of the size. Its queue of 4 buffers is left as it is: it is
    # always drained, and a camera that finds no free buffer drops every second picture.
    wanted = {
        cv2.CAP_PROP_FRAME_WIDTH: capture_settings.width,
        cv2.CAP_PROP_FRAME_HEIGHT: capture_settings.height,
        cv2.CAP_PROP_FPS: capture_settings.fps,
    }
    for key, value in wanted.items():
        if value is not None:
            capture.set(key, value)
    return LiveSource(f"{name}: {described(capture)}", _pending_frames(name, capture), capture.get(cv2.CAP_PROP_FPS))


def open_csi(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """A camera on a Jetson's CSI port, `csi://0`; takes an OpenCV that was built with GStreamer, or it is an InputError."""
    import cv2

    match = re.fullmatch(r"csi://(\d+)", address)
    if not match:
        raise InputError(f"{address}: a camera on a CSI port is csi://0, csi://1 ...")
    if not re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
        raise InputError(f"{address}: this OpenCV was built without GStreamer; docs/jetson.md has a way to one with it")
    capture = cv2.VideoCapture(csi_pipeline(int(match[1]), capture_settings), cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise InputError(f"{address}: cannot be opened; another program may be using it, or it has no such size and rate")
    return LiveSource(f"{address}: {described(capture)}", _pending_frames(address, capture), capture.get(cv2.CAP_PROP_FPS))


def csi_pipeline(sensor: int, capture_settings: CaptureSettings) -> str:
    """GStreamer's pipeline from the sensor to the newest frame in BGR."""
    width, height = capture_settings.width or 1280, capture_settings.height or 720
    fps = Fraction(capture_settings.fps or 30).limit_denominator(1001)
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM), width={width}, height={height}, format=NV12, "
        f"framerate={fps.numerator}/{fps.denominator} ! nvvidconv ! video/x-raw, format=BGRx ! videoconvert ! "
        "video/x-raw, format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )


def described(capture: cv2.VideoCapture) -> str:
    """Size, format and the rate that the driver states."""
    import cv2

    width, height = (round(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = bytes(code >> shift & 0xFF for shift in (0, 8, 16, 24)).decode("ascii", "replace").strip("\0 ") if code > 0 else ""
    return f"{width}x{height} {letters} at {capture.get(cv2.CAP_PROP_FPS):g} fps, by its driver".replace("  ", " ")


def _pending_frames(name: str, capture: cv2.VideoCapture) -> Iterator[PendingFrame]:
    given = False
    while capture.grab():
        given = True
        yield PendingFrame(time.perf_counter(), partial(_retrieved, name, capture))
    if given:
        raise InputError(f"{name}: no more pictures come from it")
    raise InputError(f"{name}: opens, but gives no picture; another program may be using it")


def _retrieved(name: str, capture: cv2.VideoCapture) -> Image:
    got, image = capture.retrieve()
    if not got or image is None:
        raise InputError(f"{name}: its pictures cannot be decoded")
    return np.asarray(image, np.uint8)
