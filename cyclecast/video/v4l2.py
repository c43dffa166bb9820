"""Linux's video nodes: driver, name and capabilities, as V4L2 reports them."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

VIDIOC_QUERYCAP = 0x80685600  # _IOR('V', 0, struct v4l2_capability), linux/videodev2.h
VIDEO_CAPTURE = 0x1 | 0x1000  # V4L2_CAP_VIDEO_CAPTURE, and its multi-planar form
DEVICE_CAPS = 0x80000000  # V4L2_CAP_DEVICE_CAPS: the capabilities of this node differ from those of the whole device
LOOPBACK_DRIVER = "v4l2 loopback"
CSI_DRIVERS = ("tegra-video", "unicam", "rp1-cfe")  # drivers of CSI ports, which deliver the raw values of a sensor


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


def device_type(driver: str, capabilities: int) -> str:
    """Returns what a V4L2 node is: camera, csi, virtual or other; see `VideoDevice.kind`."""
    if driver == LOOPBACK_DRIVER:
        return "virtual"
    if not capabilities & VIDEO_CAPTURE:
        return "other"
    return "csi" if driver in CSI_DRIVERS else "camera"
