"""One file of a recording: written under a temporary name, and given its own when it is finished."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from av.container import OutputContainer

from cyclecast.errors import OutputError, OutputExistsError
from cyclecast.files import rename_new
from cyclecast.video.files.codecs import choose_encoder
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.side_streams import SOUND
from cyclecast.video.files.writer import CONTAINERS, VideoWriter
from cyclecast.video.frame import Color, Frame, Image, StreamInfo
from cyclecast.video.live.sinks.disk_sync import DiskSync
from cyclecast.video.live.sound.feed import SoundReader
from cyclecast.video.live.sound.track import SoundTrack, add_sound
from cyclecast.video.resize import letterbox

TICKS = 90_000  # per second: the clock of MPEG
NOMINAL_FPS = 30  # for encoders that need one; the frames keep their own times
FAST_PRESETS = {"h264": "superfast", "hevc": "ultrafast", "av1": "12", "vp9": "8"}  # in software: the model needs the cores


class RecordingFile:
    """A video that grows. The first frame sets its size; frames of another size are scaled into it.

    The video is written under a temporary name beside its final one, `show.recording-1a2b.mp4` for `show.mp4`, and gets its
    final name in `finish`. So an older file is replaced only by a finished one. The temporary file can be played at any time: if
    the process crashes or is killed, it stays and lacks the last second and the frames inside the encoder at most; after a power
    cut the last seconds, see `DiskSync`.

    overwrite: may replace an older file. Raises OSError if the temporary file cannot be created.
    """

    def __init__(self, path: Path, overwrite: bool) -> None:
        self.path, self._overwrite = path, overwrite
        self.temporary = path.with_name(f"{path.stem}.recording-{secrets.token_hex(2)}{path.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.temporary.open("xb", buffering=0)  # kept: the name may be another file's by the first frame
        self.encoder: str | None = None
        """What encodes it, for people; None before the first frame."""
        self.failed = False
        self.start = self._last = 0.0
        self._writer: VideoWriter | None = None
        self.sound: SoundReader | None = None
        """Gets a track beside the video; set it before the first frame. None: there is none."""
        self._track: SoundTrack | None = None
        self._sync: DiskSync | None = None

    def write(self, image: Image, at: float) -> None:
        """Encodes a frame of this time, in seconds. Raises OutputError if that fails; what was written before stays."""
        try:
            if self._writer is None:
                self._writer = self._open(image, at)
            info = self._writer.info
            duration = round(TICKS * (at - self._last)) or TICKS // NOMINAL_FPS
            if self.sound is not None and self._track is not None:
                self._writer.mux(self._track.encode(self.sound.read(at), self.start, at))
            fitted = letterbox(image, (info.width, info.height))
            self._writer.write(Frame(fitted, round(TICKS * (at - self.start)), min(duration, TICKS)))
        except BaseException:
            self.failed = True
            raise
        self._last = at

    def _open(self, image: Image, at: float) -> VideoWriter:
        codec, (height, width) = CONTAINERS[self.path.suffix.lower()], image.shape[:2]
        chosen = choose_encoder(codec, size=(width, height))
        self.encoder = chosen.description()
        encoding = Encoding(codec, preset=None if chosen.hardware else FAST_PRESETS[codec], hardware=chosen.hardware)
        info = StreamInfo(width, height, Fraction(NOMINAL_FPS), Fraction(1, TICKS), None, Color(1, 1, 1, 1), Fraction(1))
        self.start = self._last = at
        add_streams = None if self.sound is None else self._add_sound
        writer = VideoWriter(self.temporary, info, encoding, growing=True, file=self._file, add_streams=add_streams)
        self._sync = DiskSync(self.temporary)
        return writer

    def _add_sound(self, container: OutputContainer) -> None:
        self._track = add_sound(container, SOUND[self.path.suffix.lower()])

    @property
    def size(self) -> int:
        """Bytes so far; 0 if the file is gone."""
        with suppress(OSError):
            return os.stat(self.temporary).st_size
        return 0

    def finish(self) -> None:
        """Finishes the file and gives it its final name, unless writing has failed. A file without a frame is removed.

        Raises OutputError if that fails; the temporary file stays.
        """
        with self._file:
            self._finish()

    def _finish(self) -> None:
        if self._writer is None:
            with suppress(OSError):
                self.temporary.unlink(missing_ok=True)
            return
        try:
            if self._track is not None and not self.failed:
                self._writer.mux(self._track.flush())
            self._writer.close()
        except BaseException:
            self.failed = True
            raise
        finally:
            if self._sync is not None:
                self._sync.close()
        if self.failed:  # an older file is not replaced by half a recording
            return
        if not self._has_name():
            raise OutputError(f"{self.temporary}: another program has replaced or removed it; the recording is lost")
        self._file.close()  # Windows renames no open file
        try:
            (os.replace if self._overwrite else rename_new)(self.temporary, self.path)
        except FileExistsError as error:
            raise OutputExistsError(
                f"{self.path}: another program has written it meanwhile; the recording is {self.temporary.name}"
            ) from error
        except OSError as error:
            raise OutputError(f"cannot be renamed ({error.strerror}); the recording is {self.temporary.name}") from error

    def _has_name(self) -> bool:
        """Returns whether the temporary name is still that of the file that was created for it."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.lstat(self.temporary))
        except OSError:
            return False
