"""A live run into a file: each picture at the time of its capture, in a file that can be played whatever ends the run."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from cyclecast.errors import OutputError, OutputExistsError
from cyclecast.files import write_error
from cyclecast.video.files.codecs import choose_encoder
from cyclecast.video.files.writer import CONTAINERS, Encoding, VideoWriter
from cyclecast.video.frame import Color, Frame, StreamInfo
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.styling.styled_frame import StyledFrame
from cyclecast.video.resize import resized

TICKS = 90_000  # per second: MPEG's clock
NOMINAL = 30  # frames per second, for encoders that ask; the times are what counts
QUICK = {"h264": "superfast", "hevc": "ultrafast", "av1": "12", "vp9": "8"}  # presets in software: the model needs the cores


class Recording:
    """Records into .mp4, .m4v, .mov, .mkv or .webm; hardware encodes if it is here. Sizes stay those of the first picture.

    Pictures that are held because the source is gone are left out: a player shows the last one for as long. OutputError if the
    file exists (unless `overwrite`), is of another kind, or cannot be written.
    """

    in_main_thread = False

    def __init__(self, address: str, controls: SessionControls, overwrite: bool = False) -> None:
        self.name = address
        self._path, self._controls = Path(address.removeprefix("file://")), controls
        suffix = self._path.suffix.lower()
        if suffix not in CONTAINERS:
            raise OutputError(
                f"{address}: a sink is window, virtual, web, null, or a file to record into ({', '.join(CONTAINERS)})"
            )
        if self._path.exists() and not overwrite:
            raise OutputExistsError(f"{address}: exists already; --overwrite replaces it")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.open("wb").close()
        except OSError as error:
            raise write_error(error, address) from error
        self._codec = CONTAINERS[suffix]
        self._writer: VideoWriter | None = None
        self._begin = self._last = 0.0

    def show(self, shown: StyledFrame) -> None:
        """Encodes one picture."""
        if shown.notice is not None:
            return
        if self._writer is None:
            self._writer = self._open(shown)
        info = self._writer.info
        image = resized(shown.image, (info.width, info.height))
        duration = round(TICKS * (shown.at - self._last)) or TICKS // NOMINAL
        self._writer.write(Frame(image, round(TICKS * (shown.at - self._begin)), min(duration, TICKS)))
        self._last = shown.at

    def _open(self, shown: StyledFrame) -> VideoWriter:
        height, width = shown.image.shape[:2]
        chosen = choose_encoder(self._codec, size=(width, height))
        self._controls.report(f"{self.name}: encoder {chosen.description()}")
        encoding = Encoding(self._codec, preset=None if chosen.hardware else QUICK[self._codec], hardware=chosen.hardware)
        info = StreamInfo(width, height, Fraction(NOMINAL), Fraction(1, TICKS), None, Color(1, 1, 1, 1), Fraction(1))
        self._begin = self._last = shown.at
        return VideoWriter(self._path, info, encoding, growing=True)

    def idle(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Finishes the file; one without a picture goes."""
        if self._writer is None:
            self._path.unlink(missing_ok=True)
        else:
            self._writer.close()
