"""Files that name other files or addresses instead of holding a video: FFmpeg would follow them, whatever their suffix."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import av

LOCAL_LISTS = frozenset({"concat", "dash", "hls", "image2", "imf", "sdp", "vobsub", "webm_dash_manifest"})  # FFmpeg's demuxers
STREAMED_LISTS = LOCAL_LISTS - {"dash", "hls"}  # what is never a stream over HTTP
HEAD_BYTES = 4096


@lru_cache
def formats_without(lists: frozenset[str]) -> str:
    """Returns FFmpeg's option `format_whitelist`: every format but these."""
    return ",".join(sorted(av.formats_available - lists))


def describe_list(path: Path) -> str | None:
    """Returns what a list is called, with an article; None for other files. Raises OSError if the file cannot be read."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(b"ffconcat"):
        return "an ffconcat list"
    if head.startswith(b"#EXTM3U"):
        return "an HLS playlist"
    if b"<MPD" in head and head.lstrip().startswith(b"<"):
        return "a DASH manifest"
    if head.startswith(b"v=0") and b"\nm=" in head:
        return "a session description (SDP)"
    return None
