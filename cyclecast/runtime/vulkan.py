"""The adapters that Vulkan lists: GPUs, and programs that compute on the CPU in place of one."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from dataclasses import dataclass

log = logging.getLogger(__name__)

LOADER = "libvulkan.so.1"  # Debian's package libvulkan1
TYPES = ("other", "integrated", "discrete", "virtual", "software")  # VkPhysicalDeviceType
BEST_FIRST = ("discrete", "integrated", "software", "other", "virtual")  # the order in which WebGPU's library prefers them
VERSION_1_1 = 1 << 22 | 1 << 12
MAX_NAME = 256  # VK_MAX_PHYSICAL_DEVICE_NAME_SIZE
PROPERTIES_TAIL = 1024  # more bytes than VkPhysicalDeviceProperties has after the name


@dataclass(frozen=True)
class Adapter:
    """A device of Vulkan."""

    name: str
    type: str
    """One of `TYPES`."""

    @property
    def is_software(self) -> bool:
        """Whether it is a program that runs on the CPU, such as llvmpipe or SwiftShader."""
        return self.type == "software"


class _ApplicationInfo(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("application", ctypes.c_char_p),
        ("application_version", ctypes.c_uint32),
        ("engine", ctypes.c_char_p),
        ("engine_version", ctypes.c_uint32),
        ("api_version", ctypes.c_uint32),
    ]


class _InstanceCreateInfo(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.POINTER(_ApplicationInfo)),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    ]


class _Properties(ctypes.Structure):
    _fields_ = [
        ("api_version", ctypes.c_uint32),
        ("driver_version", ctypes.c_uint32),
        ("vendor", ctypes.c_uint32),
        ("device", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("name", ctypes.c_char * MAX_NAME),
        ("tail", ctypes.c_char * PROPERTIES_TAIL),
    ]


def list_adapters(loader: str = LOADER) -> list[Adapter]:
    """Lists the adapters of all Vulkan drivers, the one that WebGPU's library prefers first; none without a driver.

    Asks the drivers once for each setting of the loader's variables (VK_…), because each is loaded for that. loader: the file
    name of Vulkan's loader. Raises OSError if it is not installed.
    """
    return list(_ask_drivers(loader, tuple(sorted(item for item in os.environ.items() if item[0].startswith("VK_")))))


@functools.cache
def _ask_drivers(loader: str, variables: tuple[tuple[str, str], ...]) -> tuple[Adapter, ...]:
    vulkan = ctypes.CDLL(loader)
    application = _ApplicationInfo(application=b"cyclecast", api_version=VERSION_1_1)
    settings = _InstanceCreateInfo(type=1, application=ctypes.pointer(application))  # VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO
    instance = ctypes.c_void_p()
    if result := vulkan.vkCreateInstance(ctypes.byref(settings), None, ctypes.byref(instance)):
        log.debug("vkCreateInstance: %d", result)  # VK_ERROR_INCOMPATIBLE_DRIVER, -9: there is no driver
        return ()
    try:
        count = ctypes.c_uint32()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
        handles = (ctypes.c_void_p * count.value)()
        vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
        adapters = [_describe(vulkan, handle) for handle in handles[: count.value] if handle]
    finally:
        vulkan.vkDestroyInstance(instance, None)
    return tuple(sorted(adapters, key=lambda adapter: BEST_FIRST.index(adapter.type)))


def _describe(vulkan: ctypes.CDLL, handle: int) -> Adapter:
    properties = _Properties()
    vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(handle), ctypes.byref(properties))
    return Adapter(
        properties.name.decode("utf-8", "replace"), TYPES[properties.type] if properties.type < len(TYPES) else "other"
    )
