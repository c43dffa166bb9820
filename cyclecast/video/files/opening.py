"""Opens video files for reading."""

from __future__ import annotations

import os
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from cyclecast.errors import InputError, MissingInputError


def open_container(path: Path, hwaccel: HWAccel | None = None, position: int = 0) -> InputContainer:
    """Opens PyAV's container for reading. InputError if it is no video, or has nothing that `hwaccel` decodes.

    position: bytes to skip, in a transport or program stream, which can be read from anywhere.
    """
    # Broadcasts, and files strung together, change the ids of streams; a transport stream's tables say which one continues.
    options = {"merge_pmt_versions": "1"} | ({"skip_initial_bytes": str(position)} if position else {})
    try:  # absolute, or a colon in a name would read as a protocol
        return av.open(os.path.abspath(path), metadata_errors="replace", hwaccel=hwaccel, options=options)
    except (av.FFmpegError, OSError) as error:
        if not os.path.exists(path):
            raise MissingInputError(f"{path}: no such file") from error
        raise InputError(f"{path}: cannot be read as a video ({error.strerror})") from error
    except RuntimeError as error:  # how PyAV says that hardware knows none of the codecs
        raise InputError(f"{path}: {error}") from error
