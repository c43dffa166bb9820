"""Opens video files for reading."""

from __future__ import annotations

import os
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from cyclecast.errors import InputError
from cyclecast.files import check_source


def open_container(path: Path, hwaccel: HWAccel | None = None) -> InputContainer:
    """Opens PyAV's container for reading.

    InputError if it is no file that can be read or no video, or has nothing that `hwaccel` decodes.
    """
    check_source(path)
    try:  # absolute, or a colon in a name would read as a protocol
        return av.open(os.path.abspath(path), metadata_errors="replace", hwaccel=hwaccel)
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: cannot be read as a video ({error.strerror})") from error
    except RuntimeError as error:  # how PyAV says that hardware knows none of the codecs
        raise InputError(f"{path}: {error}") from error
