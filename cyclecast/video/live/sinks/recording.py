"""A sink that records the run into a video file, each frame at the time of its capture."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from cyclecast.errors import OutputError, OutputExistsError
from cyclecast.files import check_output, rename_new, write_error
from cyclecast.video.files.codecs import choose_encoder
from cyclecast.video.files.writer import CONTAINERS, Encoding, VideoWriter
from cyclecast.video.frame import Color, Frame, StreamInfo
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sources.address import file_path, host_address, url_scheme
from cyclecast.video.live.styling.styled_frame import StyledFrame
from cyclecast.video.resize import resize_image

TICKS = 90_000  # per second: the clock of MPEG
NOMINAL_FPS = 30  # for encoders that ask; the times of the frames are what counts
FAST_PRESETS = {"h264": "superfast", "hevc": "ultrafast", "av1": "12", "vp9": "8"}  # in software: the model needs the cores


class Recording:
    """Records to .mp4, .m4v, .mov, .mkv or .webm, with a hardware encoder if there is one. The first frame sets the size.

    The video is written under a temporary name beside its final one, `show.recording-1a2b.mp4` for `show.mp4`, and gets its
    final name when the recording ends. So an older file is replaced only by a finished one. The temporary file can be played at
    any time: after a crash, or if the process is killed, it stays and holds everything up to the last second.

    Frames that are repeated because the source is gone are not recorded: a player shows the last frame for that long.
    OutputError if the file exists (unless `overwrite`), has another suffix, or cannot be written.
    """

    in_main_thread = False

    def __init__(self, address: str, controls: SessionControls, overwrite: bool = False) -> None:
        self.name = address
        self._path, self._controls, self._overwrite = Path(file_path(address)), controls, overwrite
        suffix = self._path.suffix.lower()
        if suffix not in CONTAINERS:
            raise OutputError(
                f"{host_address(address)}: expected window, virtual, web, null, or a file to record to ({', '.join(CONTAINERS)})"
            )
        check_output(self._path, overwrite)
        self._temporary = self._path.with_name(f"{self._path.stem}.recording-{secrets.token_hex(2)}{self._path.suffix}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("xb", buffering=0)  # kept: the name may be another file's by the first frame
        except OSError as error:
            raise write_error(error, address) from error
        self._codec = CONTAINERS[suffix]
        self._writer: VideoWriter | None = None
        self._failed = False
        self._start = self._last = 0.0

    def show(self, frame: StyledFrame) -> None:
        """Encodes one frame. OutputError if that fails; what was recorded before stays under the temporary name."""
        if frame.notice is not None:
            return
        try:
            if self._writer is None:
                self._writer = self._open(frame)
            info = self._writer.info
            image = resize_image(frame.image, (info.width, info.height))
            duration = round(TICKS * (frame.at - self._last)) or TICKS // NOMINAL_FPS
            self._writer.write(Frame(image, round(TICKS * (frame.at - self._start)), min(duration, TICKS)))
        except BaseException:
            self._failed = True
            raise
        self._last = frame.at

    def _open(self, frame: StyledFrame) -> VideoWriter:
        height, width = frame.image.shape[:2]
        chosen = choose_encoder(self._codec, size=(width, height))
        self._controls.report(f"{self.name}: encoder {chosen.description()}; named {self._temporary.name} until it is finished")
        preset = None if chosen.hardware else FAST_PRESETS[self._codec]
        encoding = Encoding(self._codec, preset=preset, hardware=chosen.hardware)
        info = StreamInfo(width, height, Fraction(NOMINAL_FPS), Fraction(1, TICKS), None, Color(1, 1, 1, 1), Fraction(1))
        self._start = self._last = frame.at
        return VideoWriter(self._temporary, info, encoding, growing=True, file=self._file)

    def idle(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Finishes the file and gives it its final name. A recording without a frame leaves nothing behind."""
        with self._file:
            self._finish()

    def _finish(self) -> None:
        if self._writer is None:
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            return
        try:
            self._writer.close()
        except BaseException:
            self._failed = True
            raise
        finally:
            if self._failed:  # an older file is not replaced by half a recording
                self._controls.report(f"{self.name}: everything up to the failure is in {self._temporary.name}")
        if self._failed:
            return
        if not self._has_name():
            raise OutputError(f"{self._temporary}: somebody else has replaced or removed it; the recording is lost")
        self._file.close()  # Windows renames no open file
        try:
            (os.replace if self._overwrite else rename_new)(self._temporary, self._path)
        except FileExistsError as error:
            raise OutputExistsError(
                f"{self._path}: somebody else has written it meanwhile; the recording is {self._temporary.name}"
            ) from error
        except OSError as error:
            raise OutputError(f"cannot be renamed ({error.strerror}); the recording is {self._temporary.name}") from error

    def _has_name(self) -> bool:
        """Whether the temporary name is still that of the file that was created for it."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.lstat(self._temporary))
        except OSError:
            return False


def check_files(source: str, sinks: Sequence[str]) -> None:
    """Refuses runs that would lose a file: two sinks that record to one file, or a sink that replaces the source. OutputError."""
    recordings = [address for address in sinks if Path(file_path(address)).suffix.lower() in CONTAINERS and not _is_url(address)]
    paths = [Path(file_path(address)) for address in recordings]
    for index, (address, path) in enumerate(zip(recordings, paths, strict=True)):
        if any(is_same_file(path, other) for other in paths[:index]):
            raise OutputError(f"{address}: two sinks record to this file; give each one its own")
        if not _is_url(source) and is_same_file(path, Path("/dev/stdin" if source == "-" else file_path(source))):
            raise OutputError(f"{address}: is the source; record to another file")


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths name the same file, also through links and where the file does not exist yet."""
    with suppress(OSError):
        if os.path.samefile(one, other):
            return True
    names = [os.path.realpath(path) for path in (one, other)]
    if sys.platform in ("darwin", "win32"):  # file names there are the same in upper and lower case
        names = [name.casefold() for name in names]
    return names[0] == names[1]


def _is_url(address: str) -> bool:
    return url_scheme(address) not in ("", "file")
