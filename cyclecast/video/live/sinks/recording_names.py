"""Names of recordings: `show-%Y%m%d-%H%M%S.mp4` has the time of its start, `show-%04d.mp4` the next free number."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

DATE_CODE = re.compile(r"%[YymdjHMS]")  # as in strftime
CODE = re.compile(r"%(?:%|0\d+d|[YymdjHMS])")  # those that are replaced; any other % stays
NUMBER_CODE = re.compile(r"%0(\d+)d")
SEGMENT_SUFFIX = "-%04d"


def is_pattern(path: Path) -> bool:
    """Returns whether a new file gets another name each time."""
    return any(code != "%%" for code in CODE.findall(str(path)))


def with_number(path: Path) -> Path:
    """Returns the pattern of a recording's segments: the path itself if it is a pattern, or else with a number at its end."""
    if is_pattern(path):
        return path
    return path.with_name(f"{path.stem}{SEGMENT_SUFFIX}{path.suffix}")


def new_path(pattern: Path, now: datetime) -> Path:
    """Returns the path of a new file: with the time, and with a number above those of all files of this pattern in the folder.

    A pattern without a number gets one at its end if its file exists already, as after a restart within the same second.
    """
    dated = Path(DATE_CODE.sub(lambda code: now.strftime(code[0]), str(pattern)))
    if NUMBER_CODE.search(dated.name):
        return dated.with_name(_fill(dated.name, _last_number(dated) + 1))
    path = dated.with_name(_fill(dated.name, 0))
    return unused(path.parent / path.stem, path.suffix)


def unused(stem: Path, suffix: str) -> Path:
    """Returns the path `stem + suffix`, with a number between the two if it exists."""
    path, number = Path(f"{stem}{suffix}"), 1
    while os.path.lexists(path):
        path, number = Path(f"{stem}-{number}{suffix}"), number + 1
    return path


def _fill(name: str, number: int) -> str:
    return _replace(name, lambda digits: f"{number:0{digits}d}")


def _replace(name: str, number: Callable[[int], str]) -> str:
    """Replaces a number's code by what `number` returns for its digits, and %% by %."""
    return re.sub(r"%%|%0(\d+)d", lambda code: "%" if code[1] is None else number(int(code[1])), name)


def _last_number(pattern: Path) -> int:
    """Returns the highest number among the folder's files of this pattern, finished ones or not; 0 if there is none."""
    parts = re.split(r"(%%|%0\d+d)", pattern.stem)
    expression = "".join("%" if part == "%%" else r"(\d+)" if NUMBER_CODE.fullmatch(part) else re.escape(part) for part in parts)
    named = re.compile(rf"{expression}(?:\.recording-[0-9a-f]+)?{re.escape(pattern.suffix)}")
    try:
        names = os.listdir(pattern.parent)
    except OSError:  # it will be created
        return 0
    return max((int(match[1]) for match in map(named.fullmatch, names) if match), default=0)
