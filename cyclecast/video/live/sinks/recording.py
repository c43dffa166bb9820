"""A sink that records the run into video files, each frame at the time of its capture."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cyclecast.errors import ConfigError, OutputError
from cyclecast.files import check_output, write_error
from cyclecast.video.files.writer import CONTAINERS
from cyclecast.video.live.failure import failure_text
from cyclecast.video.live.sinks.network.address import playlist_path
from cyclecast.video.live.sinks.recording_file import RecordingFile
from cyclecast.video.live.sinks.recording_names import is_pattern, new_path, with_number
from cyclecast.video.live.sinks.sink import MissingSink, SessionControls
from cyclecast.video.live.sound.feed import SoundReader, sound_reader
from cyclecast.video.live.sources.address import file_path, host_address, url_scheme
from cyclecast.video.live.styling.styled_frame import StyledFrame

RESERVED_BYTES = 64 << 20  # of the disk stay free, so that the system goes on working
RESERVED_SHARE = 0.05  # of a small disk
CHECK_INTERVAL_S = 1.0  # between two looks at the disk

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Segments:
    """When a recording goes on in another file. Raises ConfigError for invalid values."""

    seconds: float | None = None
    """Length of one file; None: no limit."""
    mib: int | None = None
    """Size of one file in MiB, which it exceeds by a second of video at most; None: no limit."""

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds >= 1:
            raise ConfigError(f"a segment must last at least 1 second, got {self.seconds:g}")
        if self.mib is not None and self.mib < 1:
            raise ConfigError(f"a segment must have at least 1 MiB, got {self.mib}")

    @property
    def is_limited(self) -> bool:
        """Returns whether there is more than one file."""
        return self.seconds is not None or self.mib is not None

    def is_over(self, seconds: float, size: int) -> bool:
        """Returns whether a file of this length and size, in bytes, is finished."""
        return (self.seconds is not None and seconds >= self.seconds) or (self.mib is not None and size >= self.mib << 20)


class Recording:
    """Records to .mp4, .m4v, .mov, .mkv or .webm, with a hardware encoder if there is one; see `RecordingFile`.

    The name may be a pattern, see `recording_names`. segments: when another file begins; a name without a pattern then gets a
    number. Before the disk is full, the recording is finished, and the sink fails.

    Frames that are repeated because the source is gone are not recorded: a player shows the last frame for that long.
    Raises OutputError if the file exists (unless `overwrite`) or has another suffix, MissingSink if it cannot be written.
    """

    def __init__(
        self, address: str, controls: SessionControls, overwrite: bool = False, segments: Segments | None = None
    ) -> None:
        self.name = address
        self._path, self._controls, self._overwrite = Path(file_path(address)), controls, overwrite
        if self._path.suffix.lower() not in CONTAINERS:
            raise OutputError(
                f"{host_address(address)}: expected window, virtual, web, null, or a file to record to "
                f"({', '.join(CONTAINERS)}), or a server, such as rtmp://HOST/APP/KEY"
            )
        self._segments = segments or Segments()
        if self._segments.is_limited:
            self._path = with_number(self._path)
        if not is_pattern(self._path):
            check_output(self._path, overwrite)
        self._checked = 0.0
        self._finishing: threading.Thread | None = None
        self._sound: SoundReader | None = None  # from the first frame on, if there is sound
        self._failure: Exception | None = None  # of a file that was finished in the background
        try:
            self._file = self._new_file()
            self._check_disk()
        except OSError as error:
            raise MissingSink(str(write_error(error, address))) from error
        except OutputError as error:
            self._file.finish()
            raise MissingSink(f"{address}: {error}") from error

    def _new_file(self) -> RecordingFile:
        path = new_path(self._path, datetime.now()) if is_pattern(self._path) else self._path
        return RecordingFile(path, self._overwrite)

    def _check_disk(self) -> None:
        """Raises OutputError if the disk is almost full."""
        usage = shutil.disk_usage(self._file.path.parent)
        if usage.free < min(RESERVED_BYTES, RESERVED_SHARE * usage.total):
            raise OutputError(f"the disk is almost full ({usage.free >> 20} MiB free), so nothing more is recorded")

    def show(self, frame: StyledFrame) -> None:
        """Encodes one frame. Raises OutputError if that fails, or before the disk is full; what was recorded before stays."""
        if frame.notice is not None:
            return
        if self._failure is not None:
            raise self._failure
        if frame.at - self._checked >= CHECK_INTERVAL_S:
            self._checked = frame.at
            with suppress(OSError):
                self._check_disk()
        if self._file.encoder is not None and self._segments.is_over(frame.at - self._file.start, self._file.size):
            self._begin_next_file()
        is_first = self._file.encoder is None
        if is_first and self._sound is None:
            self._sound = sound_reader(self._controls.sound)
        self._file.sound = self._sound
        self._file.write(frame.image, frame.at)
        if is_first:
            temporary = self._file.temporary.name
            self._controls.report(f"{self.name}: encoder {self._file.encoder}; named {temporary} until it is finished")

    def _begin_next_file(self) -> None:
        """Finishes the file in the background, because a slow disk takes longer than a frame."""
        self._join()
        previous = self._file
        try:
            self._file = self._new_file()
        except OSError as error:
            raise write_error(error) from error
        self._finishing = threading.Thread(target=self._finish, args=(previous,), name=f"finish {previous.path.name}")
        self._finishing.start()

    def _finish(self, file: RecordingFile) -> None:
        try:
            file.finish()
            self._controls.report(f"recorded {file.path}")
        except Exception as error:
            log.debug("%s cannot be finished", file.path, exc_info=True)
            self._failure = error if isinstance(error, OutputError) else OutputError(failure_text(error))

    def _join(self) -> None:
        if self._finishing is not None:
            self._finishing.join()
            self._finishing = None

    def idle(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Finishes the file and gives it its final name. A recording without a frame leaves nothing behind."""
        self._join()
        try:
            self._file.finish()
        finally:
            if self._file.failed:
                self._controls.report(f"{self.name}: everything up to the failure is in {self._file.temporary.name}")
        if self._file.encoder is not None and not self._file.failed and is_pattern(self._path):
            self._controls.report(f"recorded {self._file.path}")
        if self._failure is not None:
            raise self._failure


def check_is_video(address: str) -> None:
    """Raises OutputError if the address does not name a video file."""
    if _is_url(address) or Path(file_path(address)).suffix.lower() not in CONTAINERS:
        raise OutputError(f"{host_address(address)}: expected a file to record to ({', '.join(CONTAINERS)})")


def check_files(source: str, sinks: Sequence[str]) -> None:
    """Raises OutputError if the run would lose a file: two sinks that write the same one, or a sink that replaces the source."""
    recordings = [address for address in sinks if Path(file_path(address)).suffix.lower() in CONTAINERS and not _is_url(address)]
    written = [(address, Path(file_path(address))) for address in recordings]
    written += [(address, path) for address in sinks if (path := playlist_path(address)) is not None]
    for index, (address, path) in enumerate(written):
        if any(is_same_file(path, other) for _, other in written[:index]):
            raise OutputError(f"{address}: two sinks record to this file; give each one its own")
        if not _is_url(source) and is_same_file(path, Path("/dev/stdin" if source == "-" else file_path(source))):
            raise OutputError(f"{address}: is the source; record to another file")


def is_same_file(one: Path, other: Path) -> bool:
    """Returns whether two paths name the same file, also through links and where the file does not exist yet."""
    with suppress(OSError):
        if os.path.samefile(one, other):
            return True
    names = [os.path.realpath(path) for path in (one, other)]
    if sys.platform in ("darwin", "win32"):  # file names there are the same in upper and lower case
        names = [name.casefold() for name in names]
    return names[0] == names[1]


def _is_url(address: str) -> bool:
    return url_scheme(address) not in ("", "file")
