"""Lists the suffixes of video files, and opens them for reading."""

from __future__ import annotations

import os
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from cyclecast.errors import InputError
from cyclecast.files import check_source
from cyclecast.video.files.lists import LOCAL_LISTS, describe_list, formats_without

VIDEO_SUFFIXES = frozenset(
    {".264", ".265", ".3g2", ".3gp", ".amv", ".apng", ".asf", ".avc", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264"}
    | {".h265", ".hevc", ".ivf", ".m1v", ".m2p", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg"}
    | {".mpg", ".mpv", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".trp", ".ts", ".vob", ".vro"}
    | {".webm", ".wmv", ".wtv", ".y4m"}
)
"""Suffixes of the files in a folder that count as videos. A file that is named may have any other."""


def open_container(path: Path, hwaccel: HWAccel | None = None, position: int = 0) -> InputContainer:
    """Opens PyAV's container for reading.

    position: bytes to skip, in a transport or program stream, which can be read from anywhere. Raises InputError if the file
    cannot be read, is not a video, or has nothing that `hwaccel` decodes.
    """
    check_source(path)
    options = {"protocol_whitelist": "file", "format_whitelist": formats_without(LOCAL_LISTS)}
    # Broadcasts, and concatenated files, change the ids of streams; a transport stream's tables say which one continues.
    options |= {"merge_pmt_versions": "1"} | ({"skip_initial_bytes": str(position)} if position else {})
    try:
        named = describe_list(path)
        if named is not None:
            raise InputError(f"{path}: {named}, which names other files, not a video; convert those")
        # Absolute, or a colon in a name would read as a protocol.
        return av.open(os.path.abspath(path), options=options, metadata_errors="replace", hwaccel=hwaccel)
    except InputError:  # some of them are OSErrors, too
        raise
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: cannot be read as a video ({error.strerror})") from error
    except RuntimeError as error:  # PyAV's error if the hardware supports none of the codecs
        raise InputError(f"{path}: {error}") from error
