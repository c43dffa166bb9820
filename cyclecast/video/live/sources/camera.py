"""Cameras through OpenCV: V4L2, AVFoundation, DirectShow, and through GStreamer those on the CSI port of a Jetson."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cyclecast.errors import InputError, MissingInputError
from cyclecast.video.cameras import INSTALL_NAMES, find_camera, fourcc_name, list_cameras, name_cameras, open_capture
from cyclecast.video.frame import Image
from cyclecast.video.live.sources.address import redacted_address
from cyclecast.video.live.sources.source import CaptureSettings, LiveSource, PendingFrame

if TYPE_CHECKING:
    import cv2

FAILED_GRABS = 10  # in a row, after which the camera has failed; a single one is a frame lost on the bus
GRAB_RETRY_S = 0.02
NEWEST_FRAME = "videoconvert ! video/x-raw, format=BGR ! appsink drop=true max-buffers=1 sync=false"  # the end of a pipeline


def open_camera(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Opens a camera by index or device and requests MJPG, the size and the rate; the camera picks the nearest it has.

    Raises InputError if the camera cannot be opened. `stated_fps` is what the driver claims.
    """
    import cv2

    name = redacted_address(address)
    try:
        capture = open_capture(int(address) if address.isdigit() else address)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    # Set these after the format, and the rate last: V4L2 picks among the rates of the size. Leave V4L2's queue at 4 buffers: we
    # always drain it, and a camera that finds no free buffer drops every second frame.
    requests = {
        cv2.CAP_PROP_FRAME_WIDTH: capture_settings.width,
        cv2.CAP_PROP_FRAME_HEIGHT: capture_settings.height,
        cv2.CAP_PROP_FPS: capture_settings.fps,
    }
    for capture_property, value in requests.items():
        if value is not None:
            capture.set(capture_property, value)
    return _live_source(name, capture)


def open_named_camera(name: str, capture_settings: CaptureSettings) -> LiveSource:
    """Opens the one camera whose name contains `name`. Raises InputError, which lists the cameras, if there is no such one."""
    cameras = list_cameras()
    camera = find_camera(name, cameras)
    if camera is not None and camera.kind == "csi":
        raise InputError(f"{name}: {camera.name} is a sensor on the board's CSI port; type csi://0, csi://1 ...")
    if camera is not None:
        source = open_camera(camera.source, capture_settings)
        return replace(source, description=f"{camera.name}, {source.description}")
    advice = "type 0 for a camera, rtsp://HOST/PATH for a stream, pattern:// for a test pattern"
    if cameras:
        advice += f"; the cameras are {name_cameras(cameras)}"
    elif platform.system() != "Linux":
        advice += f"; for cameras by name: {INSTALL_NAMES}"
    found = "no such file, and no camera of that name" if cameras else "no such file"
    raise MissingInputError(f"{name}: {found}; {advice}")


def open_csi(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Opens a camera on the CSI port of a Jetson, `csi://0`. Raises InputError if OpenCV was built without GStreamer."""
    import cv2

    match = re.fullmatch(r"csi://(\d+)", address)
    if not match:
        raise InputError(f"{address}: not a CSI camera; type csi://0, csi://1 ...")
    _check_gstreamer(address)
    capture = cv2.VideoCapture(csi_pipeline(int(match[1]), capture_settings), cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise InputError(
            f"{address}: cannot be opened; close other programs that use it, or type another --width, --height or --fps"
        )
    return _live_source(address, capture)


def open_pipeline(address: str, capture_settings: CaptureSettings) -> LiveSource:
    """Opens a pipeline of GStreamer, `gst://v4l2src ! ...`. Raises InputError if OpenCV was built without GStreamer.

    A pipeline without an `appsink` gets one, for the newest frame in BGR. The settings do not change it.
    """
    import cv2

    name, pipeline = redacted_address(address), address.partition("://")[2].strip()
    if not pipeline:
        raise InputError("gst://: type a pipeline, such as 'gst://v4l2src device=/dev/video0'")
    _check_gstreamer(name)
    capture = cv2.VideoCapture(pipeline if "appsink" in pipeline else f"{pipeline} ! {NEWEST_FRAME}", cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise InputError(f"{name}: cannot be opened; try it with gst-launch-1.0, with ! fakesink at its end")
    return _live_source(name, capture)


def _check_gstreamer(name: str) -> None:
    """Raises InputError if OpenCV was built without GStreamer, as its wheels are."""
    import cv2

    if not re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
        raise InputError(f"{name}: this OpenCV was built without GStreamer; docs/jetson.md says how to get one with it")


def csi_pipeline(sensor: int, capture_settings: CaptureSettings) -> str:
    """Returns the GStreamer pipeline from the sensor to the newest frame in BGR."""
    width, height = capture_settings.width or 1280, capture_settings.height or 720
    fps = Fraction(capture_settings.fps or 30).limit_denominator(1001)
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM), width={width}, height={height}, format=NV12, "
        f"framerate={fps.numerator}/{fps.denominator} ! nvvidconv ! video/x-raw, format=BGRx ! {NEWEST_FRAME}"
    )


def _live_source(name: str, capture: cv2.VideoCapture) -> LiveSource:
    import cv2

    return LiveSource(f"{name}: {describe_mode(capture)}", _pending_frames(name, capture), capture.get(cv2.CAP_PROP_FPS))


def describe_mode(capture: cv2.VideoCapture) -> str:
    """Returns the size, the pixel format and the rate that the driver states."""
    import cv2

    width, height = (round(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    fourcc = fourcc_name(int(capture.get(cv2.CAP_PROP_FOURCC)))
    return f"{width}x{height} {fourcc} at {capture.get(cv2.CAP_PROP_FPS):g} fps (stated by the driver)".replace("  ", " ")


def _pending_frames(name: str, capture: cv2.VideoCapture) -> Iterator[PendingFrame]:
    """Yields frames until `FAILED_GRABS` grabs in a row fail; then raises InputError."""
    frames = failed = 0
    while failed < FAILED_GRABS:
        if _grab(capture):
            frames, failed = frames + 1, 0
            yield PendingFrame(time.perf_counter(), partial(_retrieve, name, capture))
        else:
            failed += 1
            time.sleep(GRAB_RETRY_S)
    if frames:
        raise InputError(f"{name}: the camera delivers no more frames; check its cable")
    raise InputError(f"{name}: opens, but delivers no frame; close other programs that use it")


def _grab(capture: cv2.VideoCapture) -> bool:
    import cv2

    try:
        return capture.grab()
    except cv2.error:
        return False


def _retrieve(name: str, capture: cv2.VideoCapture) -> Image:
    import cv2

    try:
        success, image = capture.retrieve()
    except cv2.error as error:
        raise InputError(f"{name}: a frame cannot be decoded ({' '.join(str(error).split())})") from error
    if not success or image is None:
        raise InputError(f"{name}: a frame cannot be decoded")
    return np.asarray(image, np.uint8)
