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


def conversion_signature(source: Path, function: FrameFunction, options: ConvertOptions) -> dict[str, Any]:
    """The source, model, options and versions of a conversion as JSON values. InputError if the source cannot be read.

    A function without an identity gets a random one, so that nothing of an earlier run is reused. A strength of 1 is left out:
    the output is that of a run from before this option existed. So is a clock that is mended.
    """
    left_out = {"resume", "overwrite"} | ({"strength"} if options.strength == 1 else set())
    left_out |= {"mend_clock"} if options.mend_clock else set()
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
