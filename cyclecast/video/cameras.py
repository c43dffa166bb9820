"""The video devices of this machine: lists them, finds a camera by its name, and opens one quickly."""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cyclecast.errors import InputError
from cyclecast.isolated import call
from cyclecast.video.v4l2 import device_type, query_nodes

if TYPE_CHECKING:
    import cv2


QUERY_TIMEOUT_S = 10.0  # for drivers to answer
INSTALL_NAMES = "pip install 'cyclecast[live]'"


@dataclass(frozen=True)
class VideoDevice:
    """A video device of the system."""

    source: str
    """The source name for `cyclecast live`: /dev/video0, or an index."""
    name: str
    kind: str
    """camera; csi: a sensor on a board's own port, which GStreamer opens; virtual: a loopback device that programs write to;
    other: it delivers no images; unknown: it was not opened."""
    failure: str | None
    """Why it delivers no images."""
    needs_group: str | None
    """The group that this user must join to open it."""


def list_video_devices(root: Path = Path("/")) -> list[VideoDevice]:
    """Lists Linux's /dev/video*, ordered by number, without opening a device. root: the folder that holds /dev and /sys."""
    nodes = [node for node in (root / "dev").glob("video*") if node.name[5:].isdigit()]
    devices = []
    for node in sorted(nodes, key=lambda node: int(node.name[5:])):
        device = root / "sys/class/video4linux" / node.name
        try:
            name = (device / "name").read_text("utf-8", "replace").strip()
        except OSError:
            name = node.name
        is_virtual = "virtual" in Path(os.path.realpath(device)).parts
        group = None if _is_permitted(node) else _group_of(node)
        failure = f"no permission: it belongs to group {group}" if group else None
        devices.append(VideoDevice(str(node), name, "virtual" if is_virtual else "unknown", failure, group))
    return devices


def query_types(devices: Sequence[VideoDevice]) -> list[VideoDevice]:
    """Returns Linux's devices with the names and types that their drivers report. One separate process asks all of them."""
    sources = [device.source for device in devices if device.failure is None]
    result = call(query_nodes, sources, seconds=QUERY_TIMEOUT_S) if sources else None
    known = dict(zip(sources, result.value, strict=True)) if result and result.value else {}
    queried = []
    for device in devices:
        if known.get(device.source):
            driver, name, capabilities = known[device.source]
            device = replace(device, name=name or device.name, kind=device_type(driver, capabilities))
        queried.append(device)
    return queried


def list_cameras(root: Path = Path("/")) -> list[VideoDevice]:
    """Lists what delivers frames under a name: cameras and virtual cameras, one node for each. Opens none.

    On Linux the driver names them, on macOS and Windows the package cv2-enumerate-cameras; without it the list is empty there.
    root: the folder that holds Linux's /dev and /sys.
    """
    if platform.system() != "Linux":
        result = call(enumerate_indices, seconds=QUERY_TIMEOUT_S)
        return [VideoDevice(str(index), name, "unknown", None, None) for index, name in result.value or ()]
    found: dict[tuple[str, str], VideoDevice] = {}
    for device in query_types(list_video_devices(root)):
        if device.kind != "other":  # a node for metadata, of the same camera
            found.setdefault((_hardware_of(device, root), device.name), device)
    return list(found.values())


def enumerate_indices() -> list[tuple[int, str]]:
    """Returns the index and the name of each camera on macOS and Windows, as `open_capture` counts them.

    Raises ModuleNotFoundError without the package cv2-enumerate-cameras.
    """
    import cv2
    from cv2_enumerate_cameras import enumerate_cameras

    backend = cv2.CAP_AVFOUNDATION if platform.system() == "Darwin" else cv2.CAP_DSHOW
    return [(int(camera.index), str(camera.name)) for camera in enumerate_cameras(backend)]


def find_camera(name: str, cameras: Sequence[VideoDevice]) -> VideoDevice | None:
    """Returns the camera of this name, or the only one whose name contains it, in upper or lower case; None if there is none.

    Raises InputError, which lists them, if there are several.
    """
    wanted = name.casefold()
    same = [camera for camera in cameras if camera.name.casefold() == wanted]
    found = same or [camera for camera in cameras if wanted in camera.name.casefold()]
    if len(found) > 1:
        advice = "type the address of one" if same else "type more of the name, or the address"
        raise InputError(f"{name}: several cameras have this name: {name_cameras(found)}; {advice}")
    return found[0] if found else None


def name_cameras(cameras: Sequence[VideoDevice]) -> str:
    """Returns names and addresses for a message: HD Webcam (/dev/video0), ..."""
    return ", ".join(f"{camera.name} ({camera.source})" for camera in cameras)


def open_capture(source: str | int) -> cv2.VideoCapture:
    """Opens an index, a device or an address with OpenCV, and requests MJPG of a device. Raises InputError if that fails.

    Most cameras send YUYV by default, which exceeds USB's bandwidth at more than a few frames per second.
    """
    os.environ.setdefault("OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS", "0")  # with them, Windows takes 20 s to open a camera
    import cv2

    backends = {"Linux": [cv2.CAP_V4L2], "Darwin": [cv2.CAP_AVFOUNDATION], "Windows": [cv2.CAP_DSHOW, cv2.CAP_MSMF]}
    is_device = isinstance(source, int) or source.startswith("/dev/") or is_character_device(source)
    if is_device and isinstance(source, str):
        source = os.path.realpath(source)  # a name in /dev/v4l/by-id is a link, which follows the camera to any number
    for backend in backends.get(platform.system(), [cv2.CAP_ANY]) if is_device else [cv2.CAP_ANY]:
        capture = cv2.VideoCapture(source, backend)
        if capture.isOpened():
            break
    else:
        raise InputError("cannot be opened" + (_reason_for_failure(source) if is_device else ""))
    if is_device:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    return capture


def is_character_device(path: str) -> bool:
    """Returns whether the path is a character device, or a link to one."""
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def fourcc_name(code: int) -> str:
    """Returns the four letters of a pixel format from OpenCV's CAP_PROP_FOURCC, such as MJPG; empty if the driver states none."""
    letters = bytes(code >> shift & 0xFF for shift in (0, 8, 16, 24)) if code > 0 else b""
    return letters.decode("ascii", "replace").strip("\0 ") if letters.isascii() else ""


def _reason_for_failure(source: str | int) -> str:
    """Returns the reason why a device cannot be opened, as the end of a sentence."""
    node = Path(f"/dev/video{source}" if isinstance(source, int) else source)
    if platform.system() == "Linux" and not node.exists():
        return f": there is no {node}; `cyclecast cameras` lists the cameras"
    if platform.system() == "Linux" and not _is_permitted(node):
        group = _group_of(node)
        return f": it belongs to group {group}, and this user does not; sudo usermod -aG {group} $USER, then log in again"
    return "; another program may be using it"


def _hardware_of(device: VideoDevice, root: Path) -> str:
    """Returns the path of the device that a node of Linux belongs to. A virtual camera is its own."""
    folder = root / "sys/class/video4linux" / Path(device.source).name / "device"
    return device.source if device.kind == "virtual" or not folder.exists() else os.path.realpath(folder)


def _is_permitted(node: Path) -> bool:
    return os.access(node, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _group_of(node: Path) -> str:
    import grp

    number = node.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
