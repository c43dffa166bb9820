"""The priority of this process among the other programs of the machine."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from ctypes import wintypes

NICENESS = 10  # from -20 (the highest priority) through 0 (the normal one) to 19
BELOW_NORMAL = 0x4000  # the priority class of Windows

log = logging.getLogger(__name__)


def lower_priority() -> None:
    """Lowers the priority of this process below normal: other programs get the cores first. A lower priority stays.

    The threads and processes that it starts later inherit the priority. Call this before it has started any.
    """
    if sys.platform == "win32":
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.GetCurrentProcess.restype = wintypes.HANDLE
        kernel32.SetPriorityClass.argtypes = (wintypes.HANDLE, wintypes.DWORD)
        if not kernel32.SetPriorityClass(kernel32.GetCurrentProcess(), BELOW_NORMAL):
            log.warning("the priority cannot be lowered (error %s of Windows)", ctypes.get_last_error())
    else:
        niceness = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, niceness))
