"""What the output of a conversion depends on: two runs with the same signature write the same file."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av

from cyclecast._version import __version__
from cyclecast.files import digest_of_ends, read_error
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.convert.parts import PART_FRAMES
from cyclecast.video.frame import FrameFunction

ADDED_LATER = {"strength": 1, "deinterlace": "auto", "mend_clock": True}  # option -> its default


def conversion_signature(source: Path, function: FrameFunction, options: ConvertOptions) -> dict[str, Any]:
    """Describes source, model, options and versions of a conversion as JSON values. Raises InputError for an unreadable source.

    A function without an identity gets a random one, so that nothing of an earlier run is reused. An option of `ADDED_LATER` is
    left out if it has its default: the output is that of a run from before the option existed.
    """
    left_out = {"resume", "overwrite"} | {name for name, default in ADDED_LATER.items() if getattr(options, name) == default}
    try:
        content = [digest_of_ends(source), os.stat(source).st_mtime_ns]
    except OSError as error:
        raise read_error(error, source) from error
    return {
        "source": content,
        "model": function.identity or os.urandom(8).hex(),
        "options": {name: str(value) for name, value in asdict(options).items() if name not in left_out},
        "version": [__version__, av.__version__, PART_FRAMES],
    }
