"""The batch job: one file through a function, whole or not at all, and after any interruption from where it was."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av

from cyclecast._version import __version__
from cyclecast.errors import ConfigError, CyclecastError, InputError, Interrupted, MissingInputError, OutputError
from cyclecast.files import atomic_write, check_output, digest_of_ends, read_error
from cyclecast.future import Deferred, Future
from cyclecast.video.convert import pipeline
from cyclecast.video.convert.job import End, Job
from cyclecast.video.files import images
from cyclecast.video.files.codecs import choose_encoder
from cyclecast.video.files.decoders import choose_decoder
from cyclecast.video.files.muxer import assemble, assemble_gif
from cyclecast.video.files.reader import ResumePoint, TimeRange, VideoFile
from cyclecast.video.files.side_streams import SideStreams
from cyclecast.video.files.writer import CONTAINERS, Encoding, VideoWriter, even
from cyclecast.video.frame import Frame, FrameFunction, StreamInfo
from cyclecast.video.resize import style_frame, submit_frame, work_size

GIF = ".gif"
PART_FRAMES = 120  # what a crash can cost, at most; each part begins with a key frame

OnFrame = Callable[[int, "int | None"], None]
"""Told how many frames are done, and how many there should be (None: nobody knows)."""
OnMessage = Callable[[str], None]
"""Told, in words, what should be known before the work begins."""


class PartsMaker(Protocol):
    """Makes the parts of a video elsewhere, such as `cluster.Cluster`: all that the job has not, then `job.close_source`."""

    def __call__(
        self,
        video: VideoFile,
        window: TimeRange,
        options: ConvertOptions,
        encoding: Encoding,
        job: Job,
        on_frame: OnFrame | None,
        /,
    ) -> pipeline.StageSeconds: ...


@dataclass(frozen=True)
class ConversionReport:
    """What became of one file."""

    source: str
    output: str
    frames: int
    seconds: float
    fps: float
    """Frames of this run in a second of it."""
    width: int
    height: int
    audio: str
    """copied, transcoded or none."""
    dropped: list[str]
    """What the output has not from the source, in words."""
    notices: list[str]
    """What is not as it was, in words."""
    damage: str | None
    """What of the source could not be decoded, in words; the rest is in the output."""
    resumed_frames: int
    """Frames taken over from an earlier run that was cut short."""
    stages_ms: dict[str, float]
    """decode, model, encode: work per frame, waiting left out."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How a file is written; None leaves it to the container and the encoder."""

    codec: str | None = None
    """h264, hevc, av1 or vp9."""
    crf: int | None = None
    """The encoder's quality scale, lower is better."""
    preset: str | None = None
    """The encoder's own name for how hard it tries."""
    pix_fmt: str | None = None
    """FFmpeg's name of the output's pixel format, such as yuv444p or yuv420p10le; None: yuv420p."""
    encoder: str = "auto"
    """auto: hardware that works here, else software; software; or one of `encoders.HARDWARE`."""
    decoder: str = "auto"
    """The same of decoders: `decoders.DEVICES`."""
    audio: bool = True
    """Take the sound along."""
    start: Fraction = Fraction(0)
    """Seconds of the source to leave out at its beginning; what is shown then has time 0."""
    duration: Fraction | None = None
    """Seconds to convert from there; None: to the end."""
    work_height: int | None = None
    """Run the function at this height, deliver at the source's size."""
    resume: bool = True
    """Go on where an earlier run of the same job was cut short."""
    overwrite: bool = False
    """Replace an output that exists."""

    def __post_init__(self) -> None:
        if self.work_height is not None and self.work_height < 16:
            raise ConfigError(f"work_height must be at least 16, got {self.work_height}")
        if self.start < 0:
            raise ConfigError(f"start must be 0 or later, got {float(self.start):g}")
        if self.duration is not None and self.duration <= 0:
            raise ConfigError(f"duration must be more than 0, got {float(self.duration):g}")


def convert_file(
    source: Path,
    output: Path,
    function: FrameFunction,
    options: ConvertOptions | None = None,
    on_frame: OnFrame | None = None,
    on_message: OnMessage | None = None,
    maker: PartsMaker | None = None,
) -> ConversionReport:
    """One video or image through `function`. The output appears under its name when it is whole, or not at all.

    InputError if the source cannot be read, OutputError if the output exists or cannot be written, Interrupted after Ctrl-C
    or SIGTERM; what `function` raises. What is done of a video by then stays in a folder beside the output, see `job`.
    """
    options = options or ConvertOptions()
    if os.path.isdir(source):
        raise InputError(f"{source}: is a folder")
    if not os.path.exists(source):
        raise MissingInputError(f"{source}: no such file")
    if os.path.exists(output) and os.path.samefile(source, output):
        raise OutputError(f"{output}: is the source itself")
    if source.suffix.lower() in images.SUFFIXES:
        with atomic_write(output, options.overwrite) as partial:
            return convert_image(source, output, partial, function, options, on_frame)
    check_output(output, options.overwrite)
    return convert_video(source, output, function, options, on_frame, on_message, maker)


def convert_video(
    source: Path,
    output: Path,
    function: FrameFunction,
    options: ConvertOptions,
    on_frame: OnFrame | None = None,
    on_message: OnMessage | None = None,
    maker: PartsMaker | None = None,
) -> ConversionReport:
    """Decode, model and encode side by side, part after part; then the parts become one file with all that goes beside them."""
    started = time.perf_counter()
    window, decoder = TimeRange(options.start, options.duration), choose_decoder(options.decoder)
    asked = encoding_for(output, options)
    with VideoFile(source, window, decoder.hwaccel()) as video:
        info = video.info
        size = (even(info.width), even(info.height))
        wanted = "software" if output.suffix.lower() == GIF else options.encoder
        chosen = choose_encoder(asked.codec, wanted, pix_fmt=asked.pix_fmt, size=size)
        encoding = replace(asked, hardware=chosen.hardware)
        width, height = work_size(info.width, info.height, options.work_height)
        function.prepare(width, height)
        made_of = signature(source, function, options) | {"encoder": chosen.name, "place of work": maker is None}
        with _job(output, made_of, options.resume) as job:
            for news in (job.news, f"encoder {chosen.description()}, decoder {decoder.description()}"):
                if news and on_message:
                    on_message(f"{output.name}: {news}")
            place = job.place() if maker is None else None
            resumed = job.frames
            try:
                if job.end is not None:
                    work = pipeline.StageSeconds()
                elif maker is not None:
                    work = maker(video, window, options, encoding, job, on_frame)
                else:
                    work = _convert_parts(video, place, function, options, encoding, job, on_frame)
                joining = time.perf_counter()
                if not job.frames:
                    raise InputError(f"{source}: has no frames in the part that was asked for")
                film, side_streams = _assemble(source, output, info, options, job)
                job.publish(film, output, options.overwrite)
            except KeyboardInterrupt as interrupt:
                raise Interrupted(f"{output}: interrupted{_kept(job)}") from interrupt
            except OutputError as error:
                raise OutputError(f"{output}: {error}{_kept(job)}") from error
            except CyclecastError as error:
                raise type(error)(f"{error}{_kept(job)}") from error
            frames, end = job.frames, job.end
    assert end is not None
    ended = time.perf_counter()
    work.encode += ended - joining
    seconds, made = ended - started, frames - resumed
    damage = [found for found in (end.damage, side_streams.damage) if found]
    return ConversionReport(
        source=str(source),
        output=str(output),
        frames=frames,
        seconds=round(seconds, 3),
        fps=round(made / seconds, 2),
        width=info.width,
        height=info.height,
        audio=side_streams.sound,
        dropped=side_streams.dropped,
        notices=end.notices,
        damage="; ".join(damage) or None,
        resumed_frames=resumed,
        stages_ms=_per_frame(work, made),
    )


def _convert_parts(
    video: VideoFile,
    place: ResumePoint | None,
    function: FrameFunction,
    options: ConvertOptions,
    encoding: Encoding,
    job: Job,
    on_frame: OnFrame | None,
) -> pipeline.StageSeconds:
    """Every frame behind `place`, through `function` into parts."""
    done, total = job.frames, video.info.frames
    if place is not None:
        video.resume_at(place)

    def tell(count: int) -> None:
        if on_frame:
            on_frame(done + count, total)

    with Parts(job, video.info, encoding, lambda: video.sequential) as parts:
        work = pipeline.run(iter(video), lambda frame: style(frame, function, options.work_height), parts.write, tell)
    job.close_source(End(video.notices, video.damage))
    return work


class Parts:
    """Frames into parts of `PART_FRAMES`, each handed to the job as it is whole. A context manager."""

    def __init__(self, job: Job, info: StreamInfo, encoding: Encoding, steady: Callable[[], bool]) -> None:
        self._job, self._info, self._encoding, self._steady = job, info, encoding, steady
        self._index = job.next_index()
        self._writer: VideoWriter | None = None
        self._last: int | None = None  # pts, of the part before

    def write(self, frame: Frame) -> None:
        """Encodes one frame."""
        if self._writer is None:
            first = frame.pts if self._last is None else max(frame.pts, self._last + 1)
            self._writer = VideoWriter(self._job.open_path(self._index), self._info, self._encoding, first)
        self._writer.write(frame)
        if self._writer.frames == PART_FRAMES:
            self._close()

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        assert writer is not None
        with writer:
            pass
        self._last = writer.last
        self._job.close_part(self._index, writer.part(), self._steady())
        self._index += 1

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self._writer is None:
            return
        if error is None:
            self._close()
        else:
            self._writer.__exit__(kind, error, trace)


def encoding_for(output: Path, options: ConvertOptions) -> Encoding:
    """How the parts of this output are encoded; those of a GIF without loss, as it is made of them in the end."""
    suffix = output.suffix.lower()
    if suffix == GIF:
        asked = [name for name in ("codec", "crf", "preset", "pix_fmt") if getattr(options, name) is not None]
        if asked:
            raise ConfigError(f"{output}: a GIF has no {asked[0]}")
        return Encoding("h264", crf=0, preset="ultrafast", pix_fmt="yuv444p")
    if suffix not in CONTAINERS:
        raise OutputError(f"{output}: no container of that name; there are: {', '.join([*CONTAINERS, GIF])}")
    return Encoding(options.codec or CONTAINERS[suffix], options.crf, options.preset, options.pix_fmt)


def _assemble(source: Path, output: Path, info: StreamInfo, options: ConvertOptions, job: Job) -> tuple[Path, SideStreams]:
    """The finished file, in the job's folder, and what went along."""
    suffix = output.suffix.lower()
    film = job.folder / f"film{suffix}"
    window = TimeRange(options.start, options.duration)
    with SideStreams(source, info.start, window, suffix, options.audio) as side_streams:
        (assemble_gif if suffix == GIF else assemble)(job.parts, info, film, side_streams)
    return film, side_streams


def _job(output: Path, signature: dict[str, Any], resume: bool) -> Job:
    try:
        return Job(output, signature, resume)
    except OutputError as error:
        raise OutputError(f"{output}: {error}") from error


def _kept(job: Job) -> str:
    return f"; {job.frames} frames are kept, the same command goes on behind them" if job.frames else ""


def signature(source: Path, function: FrameFunction, options: ConvertOptions) -> dict[str, Any]:
    """What an output depends on, in JSON's terms; a function without an identity is like no other, not even itself before."""
    try:
        known_by = [digest_of_ends(source), os.stat(source).st_mtime_ns]
    except OSError as error:
        raise read_error(error, source) from error
    return {
        "source": known_by,
        "model": function.identity or os.urandom(8).hex(),
        "options": {name: str(value) for name, value in asdict(options).items() if name not in ("resume", "overwrite")},
        "version": [__version__, av.__version__, PART_FRAMES],
    }


def convert_image(
    source: Path,
    output: Path,
    partial: Path,
    function: FrameFunction,
    options: ConvertOptions,
    on_frame: OnFrame | None,
) -> ConversionReport:
    """The same for a picture; it counts as one frame."""
    started = time.perf_counter()
    still = images.read_still(source)
    decoded = time.perf_counter()
    styled = style_frame(still.image, function, options.work_height)
    modelled = time.perf_counter()
    dropped = images.write_still(partial, replace(still, image=styled))
    ended = time.perf_counter()
    if on_frame:
        on_frame(1, 1)
    return ConversionReport(
        source=str(source),
        output=str(output),
        frames=1,
        seconds=round(ended - started, 3),
        fps=round(1 / (ended - started), 2),
        width=still.image.shape[1],
        height=still.image.shape[0],
        audio="none",
        dropped=dropped,
        notices=list(still.notes),
        damage=still.damage,
        resumed_frames=0,
        stages_ms=_per_frame(pipeline.StageSeconds(decoded - started, modelled - decoded, ended - modelled), 1),
    )


def _per_frame(work: pipeline.StageSeconds, frames: int) -> dict[str, float]:
    return {name: round(1000 * seconds / max(frames, 1), 3) for name, seconds in vars(work).items()}


def style(frame: Frame, function: FrameFunction, work_height: int | None) -> Future[Frame]:
    """Starts on the frame, as `resize.submit_frame`."""
    future = submit_frame(frame.image, function, work_height)
    return Deferred(lambda: Frame(future.result(), frame.pts, frame.duration))
