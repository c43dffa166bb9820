"""Converts one file with a frame function. The output is complete or absent; an interrupted run is resumed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cyclecast.errors import CyclecastError, EngineError, InputError, Interrupted, ModelError, OutputError
from cyclecast.files import atomic_write, check_output, check_source, write_error
from cyclecast.image_formats import FORMATS, RAW_SUFFIXES
from cyclecast.phrases import count_noun
from cyclecast.video.alpha import fill_hidden
from cyclecast.video.convert.callbacks import OnFrame, OnMessage
from cyclecast.video.convert.containers import GIF, check_tracks, output_encoding
from cyclecast.video.convert.job import Job, SourceEnd
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.convert.parts import PartMaker, PartWriter
from cyclecast.video.convert.pipeline import StageSeconds
from cyclecast.video.convert.report import ConversionReport, milliseconds_per_frame
from cyclecast.video.convert.signature import conversion_signature
from cyclecast.video.convert.styling import style_frames
from cyclecast.video.files import images
from cyclecast.video.files.captions import CAPTIONED
from cyclecast.video.files.codecs import choose_encoder, is_listed
from cyclecast.video.files.decoders import choose_decoder
from cyclecast.video.files.encoders import HARDWARE
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.muxer import assemble, assemble_gif
from cyclecast.video.files.pixel_formats import (
    COMMON,
    closest_alpha_pix_fmt,
    closest_pix_fmt,
    describe_change,
    describe_lost_alpha,
)
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.files.side_streams import SideStreams
from cyclecast.video.files.time_range import ResumePoint, TimeRange
from cyclecast.video.files.writer import even
from cyclecast.video.frame import FrameFunction, StreamInfo
from cyclecast.video.resize import style_frame, work_size

log = logging.getLogger(__name__)


def convert_file(
    source: Path,
    output: Path,
    function: FrameFunction,
    options: ConvertOptions | None = None,
    on_frame: OnFrame | None = None,
    on_message: OnMessage | None = None,
    part_maker: PartMaker | None = None,
) -> ConversionReport:
    """Converts a video or an image. The output appears under its name when it is complete, or not at all.

    part_maker: converts the parts of a video elsewhere, as on a cluster. Raises InputError if the source cannot be read;
    OutputError if the output exists, cannot be written, or its container cannot hold the codec; ConfigError for options that do
    not exist; Interrupted after Ctrl-C or SIGTERM; and whatever `function` raises. Finished parts of a video then stay in a
    folder beside the output, see `job`.
    """
    options = options or ConvertOptions()
    try:
        _check_files(source, output, options.overwrite)
        if _is_image(source, output):
            return convert_image(source, output, function, options, on_frame)
        return convert_video(source, output, function, options, on_frame, on_message, part_maker)
    except (EngineError, ModelError) as error:
        raise type(error)(f"{source}: {error}") from error
    except CyclecastError:  # some of them are OSErrors, too
        raise
    except OSError as error:  # such as a disk that is full when a folder is created
        log.debug("%s: the conversion failed", output, exc_info=True)
        raise write_error(error, output) from error


def _check_files(source: Path, output: Path, overwrite: bool) -> None:
    """Raises InputError or OutputError before any work if the source is no file or the output cannot be replaced."""
    check_source(source)
    if os.path.exists(output) and os.path.samefile(source, output):
        raise OutputError(f"{output}: is the source itself; name another output")
    check_output(output, overwrite)


def _is_image(source: Path, output: Path) -> bool:
    """Returns whether the source is converted as an image: also a GIF, by its first frame, if the output is an image.

    Raises InputError for a format that is not decoded, and OutputError if the output's name is not that of an image.
    """
    suffix, output_suffix = source.suffix.lower(), output.suffix.lower()
    if suffix in RAW_SUFFIXES:
        raise InputError(f"{source}: camera RAW files are not decoded here; export it as .jpg or .tif first")
    if suffix in images.SUFFIXES and output_suffix not in FORMATS:
        raise OutputError(f"{output}: {source.name} is an image; expected an output that ends in {', '.join(sorted(FORMATS))}")
    return suffix in images.SUFFIXES or (suffix == GIF and output_suffix in FORMATS)


def convert_video(
    source: Path,
    output: Path,
    function: FrameFunction,
    options: ConvertOptions,
    on_frame: OnFrame | None = None,
    on_message: OnMessage | None = None,
    part_maker: PartMaker | None = None,
) -> ConversionReport:
    """Decodes, styles and encodes the video in parts; then joins the parts and adds audio, subtitles and chapters."""
    started = time.perf_counter()
    time_range, decoder = TimeRange(options.start, options.duration, options.mend_clock), choose_decoder(options.decoder)
    with VideoFile(source, time_range, decoder.hwaccel(), options.deinterlace == "auto") as video:
        info, encoding = video.info, output_encoding(output, options, video.info.has_alpha)
        is_gif = output.suffix.lower() == GIF  # its parts are encoded by another encoder
        hardware = "software" if is_gif else options.encoder
        if encoding.pix_fmt is None:
            encoding = _follow_source(encoding, hardware, video, output.suffix.lower())
        video.alpha_notice = None if encoding.keeps_alpha else describe_lost_alpha(encoding.codec, output.suffix.lower())
        encoder = choose_encoder(encoding.codec, hardware, pix_fmt=encoding.pix_fmt, size=(even(info.width), even(info.height)))
        encoding = replace(encoding, hardware=encoder.hardware)
        check_tracks(source, output, info, time_range, options.audio)
        function.prepare(*work_size(info.width, info.height, options.work_height))
        signature = conversion_signature(source, function, options)
        signature |= {"encoder": encoder.name, "place of work": part_maker is None}
        signature |= {} if encoding.pix_fmt in (COMMON, options.pix_fmt) else {"pixel format": encoding.pix_fmt}
        with _open_job(output, signature, options.resume) as job, _one_line_errors(output, job):
            used = "gif in software" if is_gif else encoder.description()
            for message in (job.message, f"encoder {used}, decoder {decoder.description()}"):
                if message and on_message:
                    on_message(f"{output.name}: {message}")
            resume_point = job.resume_point() if part_maker is None else None
            resumed = job.frames
            if job.source_end is not None:  # only the assembly is left
                work = StageSeconds()
            elif part_maker is not None:
                work = part_maker(video, time_range, options, encoding, job, on_frame)
            else:
                work = _write_parts(video, resume_point, function, options, encoding, job, on_frame)
            assembling = time.perf_counter()
            if not job.frames:
                raise InputError(f"{source}: has no frames between --start and the end of --duration")
            path, side_streams = _assemble(source, info, options, job)
            job.publish(path, options.overwrite)
            frames, end = job.frames, job.source_end
    assert end is not None
    ended = time.perf_counter()
    work.encode += ended - assembling
    damage = [found for found in (end.damage, side_streams.damage) if found]
    return ConversionReport(
        source=str(source),
        output=str(output),
        frames=frames,
        seconds=round(ended - started, 3),
        fps=round((frames - resumed) / (ended - started), 2),
        width=info.width,
        height=info.height,
        audio=side_streams.sound,
        dropped=side_streams.dropped,
        notices=end.notices,
        damage="; ".join(damage) or None,
        resumed_frames=resumed,
        stages_ms=milliseconds_per_frame(work, frames - resumed),
    )


def _follow_source(encoding: Encoding, hardware: str, video: VideoFile, suffix: str) -> Encoding:
    """Returns the encoding with the pixel format closest to the source's; adds a notice to the video for what is lost."""
    named = replace(encoding, hardware=hardware if hardware in HARDWARE else None).encoder
    pix_fmt = COMMON
    if is_listed(named.name):
        alpha_pix_fmt = closest_alpha_pix_fmt(named, video.info.pix_fmt, suffix) if video.info.has_alpha else None
        pix_fmt = alpha_pix_fmt or closest_pix_fmt(named, video.info.pix_fmt)
    if change := describe_change(video.info.pix_fmt, pix_fmt):
        video.notices.append(change)
    return replace(encoding, pix_fmt=pix_fmt)


def _write_parts(
    video: VideoFile,
    resume_point: ResumePoint | None,
    function: FrameFunction,
    options: ConvertOptions,
    encoding: Encoding,
    job: Job,
    on_frame: OnFrame | None,
) -> StageSeconds:
    """Converts every frame after `resume_point` into parts of the job."""
    resumed, total = job.frames, video.info.frames
    if resume_point is not None:
        video.resume_at(resume_point)

    def report(count: int) -> None:
        if on_frame:
            on_frame(resumed + count, total)

    with PartWriter(job, video.info, encoding, lambda: video.sequential) as parts:
        work = style_frames(video, function, options.work_height, options.strength, parts.write, report)
    notices, codec = list(video.notices), GIF if job.output.suffix.lower() == GIF else encoding.codec
    if video.has_captions and codec not in CAPTIONED:
        notices.append(f"closed captions were left out: {codec} cannot hold them")
    job.finish_source(SourceEnd(notices, video.damage))
    return work


def _assemble(source: Path, info: StreamInfo, options: ConvertOptions, job: Job) -> tuple[Path, SideStreams]:
    """Joins the parts. Returns the finished file, still in the job's folder, and the streams that were added to the video."""
    suffix = job.output.suffix.lower()
    path = job.new_file(f"assembled{suffix}")
    time_range = TimeRange(options.start, options.duration, options.mend_clock)
    with SideStreams(source, info.start, time_range, suffix, options.audio) as side_streams:
        (assemble_gif if suffix == GIF else assemble)(job.parts, info, path, side_streams)
    return path, side_streams


def _open_job(output: Path, signature: dict[str, Any], resume: bool) -> Job:
    try:
        return Job(output, signature, resume)
    except OutputError as error:
        raise type(error)(f"{output}: {error}") from error


@contextmanager
def _one_line_errors(output: Path, job: Job) -> Iterator[None]:
    """Adds the name of the output and the number of kept frames to each error; Ctrl-C becomes Interrupted."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"{output}: interrupted{_kept_frames(job)}") from interrupt
    except OutputError as error:
        raise type(error)(f"{output}: {error}{_kept_frames(job)}") from error
    except CyclecastError as error:
        raise type(error)(f"{error}{_kept_frames(job)}") from error
    except OSError as error:
        log.debug("%s: the conversion failed", output, exc_info=True)
        raise OutputError(f"{write_error(error, output)}{_kept_frames(job)}") from error


def _kept_frames(job: Job) -> str:
    kept = f"{count_noun(job.frames, 'frame', 'are')} kept, the same command resumes after {'it' if job.frames == 1 else 'them'}"
    return f"; {kept}" if job.frames else ""


def convert_image(
    source: Path, output: Path, function: FrameFunction, options: ConvertOptions, on_frame: OnFrame | None = None
) -> ConversionReport:
    """Styles an image file; it counts as one frame."""
    with atomic_write(output, options.overwrite) as partial:
        started = time.perf_counter()
        still = images.read_still(source)
        decoded = time.perf_counter()
        image = still.image if still.alpha is None else fill_hidden(still.image, still.alpha)
        styled_image = style_frame(image, function, options.work_height, options.strength)
        styled = time.perf_counter()
        dropped = images.write_still(partial, replace(still, image=styled_image))
        ended = time.perf_counter()
    if on_frame:
        on_frame(1, 1)
    work = StageSeconds(decode=decoded - started, model=styled - decoded, encode=ended - styled)
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
        stages_ms=milliseconds_per_frame(work, 1),
    )
