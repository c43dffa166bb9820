"""The command `convert`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyclecast.cli.console import (
    DeviceOption,
    EngineOption,
    JsonOption,
    ModelOption,
    OverwriteOption,
    PrecisionOption,
    StrengthOption,
    ThreadsOption,
    WorkHeightOption,
    bars,
    engine_facts,
    extra,
    open_model,
    parse_time,
    print_json,
    print_line,
    print_warnings,
)
from cyclecast.errors import CyclecastError
from cyclecast.phrases import count_noun

if TYPE_CHECKING:
    from cyclecast.video.convert.batch import Outcome
    from cyclecast.video.convert.parts import PartMaker
    from cyclecast.video.convert.report import ConversionReport


def convert(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            show_default=False,
            help="Videos, images, folders or globs. Folders and globs leave out hidden files.",
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT", show_default=False, help="A file; a folder if SOURCE is several files, a folder or a glob."
        ),
    ] = "",
    model: ModelOption = "monet",
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    codec: Annotated[
        str | None,
        typer.Option(help="Video codec: h264, hevc (H.265), av1, vp9, prores or ffv1. Default: vp9 for .webm, otherwise h264."),
    ] = None,
    crf: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=63,
            help="Constant quality, 0 to 51 (h264, hevc) or 0 to 63 (av1, vp9); lower is better. "
            "Default: h264 18, hevc 22, av1 30, vp9 31.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Speed of the encoder: ultrafast to veryslow (h264, hevc), 0 (slow) to 13 (av1), 0 (slow) to 8 (vp9); hardware "
            "encoders have their own names. Default: veryfast (h264, hevc), 10 (av1), 5 (vp9)."
        ),
    ] = None,
    pix_fmt: Annotated[
        str | None,
        typer.Option(
            help="Pixel format of the output, by FFmpeg's name, such as yuv420p10le. Default: the closest one to the source's."
        ),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            help="Encoder: auto (hardware that works on this machine, otherwise software), software, nvenc, qsv, vaapi, amf, ..."
        ),
    ] = "auto",
    decoder: Annotated[
        str,
        typer.Option(
            help="Decoder: auto (hardware that works on this machine, otherwise software), software, cuda, vaapi, qsv, ..."
        ),
    ] = "auto",
    deinterlace: Annotated[
        str, typer.Option(help="Interlaced frames: auto makes them progressive, off leaves them as they are.")
    ] = "auto",
    no_audio: Annotated[bool, typer.Option("--no-audio", help="Leave out the sound. Default: all tracks are kept.")] = False,
    start: Annotated[str, typer.Option(help="Start in the source: seconds, MM:SS or HH:MM:SS.")] = "0",
    duration: Annotated[
        str | None, typer.Option(help="Length to convert: seconds, MM:SS or HH:MM:SS. Default: to the end.")
    ] = None,
    mend_clock: Annotated[
        bool,
        typer.Option(help="Continue the clock where it jumps, as in concatenated recordings. Otherwise a jump back is an error."),
    ] = True,
    work_height: WorkHeightOption = None,
    strength: StrengthOption = 1.0,
    resume: Annotated[bool, typer.Option(help="Resume an interrupted run of the same command, or start over.")] = True,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Exit with 0 even if damaged frames were skipped.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Number of images to read and write at the same time.")] = 2,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Convert videos on a Ray cluster: its HOST:PORT, or auto for this machine's cluster. Default: without a cluster."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert videos and images with a model. Sound, timestamps, subtitles and metadata are kept.

    Example: cyclecast convert holiday.mp4 painted.mp4 --model monet
    """
    from cyclecast.video.convert.batch import Outcome, convert_batch
    from cyclecast.video.convert.batch_log import BatchLog
    from cyclecast.video.convert.convert import convert_file
    from cyclecast.video.convert.options import ConvertOptions
    from cyclecast.video.convert.plan import plan_conversions

    if not sources:  # click fills OUTPUT first, and would report that SOURCE is missing
        missing = "OUTPUT" if output else "SOURCE and OUTPUT"
        raise typer.BadParameter("missing; type cyclecast convert SOURCE... OUTPUT", param_hint=missing)
    options = ConvertOptions(
        codec=codec,
        crf=crf,
        preset=preset,
        pix_fmt=pix_fmt,
        encoder=encoder,
        decoder=decoder,
        deinterlace=deinterlace,
        audio=not no_audio,
        start=parse_time(start),
        duration=None if duration is None else parse_time(duration),
        mend_clock=mend_clock,
        work_height=work_height,
        strength=strength,
        resume=resume,
        overwrite=overwrite,
    )
    with print_warnings():
        planned = plan_conversions(sources, output)
    is_batch = len(planned) > 1 or planned[0][0] != Path(sources[0])  # a folder or glob is a batch, even of one file
    results: list[dict[str, Any]] = []
    with (
        open_model(model, engine, device, precision, threads) as opened_model,
        connect_cluster(cluster, model, engine, device, precision, threads) as part_maker,
        bars() as bar,
    ):
        facts = engine_facts(opened_model)
        if not is_batch:
            ((source, target),) = planned
            try:
                report = convert_file(source, target, opened_model, options, bar(source.name), print_line, part_maker)
            except CyclecastError as error:
                if as_json:
                    print_json({**json_of(Outcome(source, target, error=str(error))), **facts})
                raise
            print_report(report)
            results.append(dataclasses.asdict(report))
        else:
            batch_log, on_file = BatchLog(Path(output), resume, print_line), bar("files", speed="files/s")
            on_file(0, len(planned))
            outcomes = convert_batch(
                planned,
                opened_model,
                options,
                batch_log,
                jobs=jobs,
                bucketed=opened_model.engine.size is None,
                progress=lambda name: bar(name, transient=True),
                on_message=print_line,
                part_maker=part_maker,
            )
            for number, outcome in enumerate(outcomes, 1):
                on_file(number, len(planned))
                print_outcome(outcome)
                results.append(json_of(outcome))
            batch_log.close(all_done=not any("error" in result for result in results))
    failed = any("error" in result for result in results)
    if as_json:
        print_json({**facts, "files": results} if is_batch else {**results[0], **facts})
    if failed or (not keep_going and any(result.get("damage") for result in results)):
        raise typer.Exit(1)


@contextmanager
def connect_cluster(
    address: str | None, model: str, engine: str, device: str, precision: str, threads: int | None
) -> Iterator[PartMaker | None]:
    """Connects to the cluster at this address, and closes it at the end. Yields None without an address."""
    if address is None:
        yield None
        return
    from cyclecast.runtime.model import find_model

    with extra("cluster"):
        from cyclecast.cluster import Cluster
    with Cluster(address, find_model(model), engine, device, precision, threads) as part_maker:
        print_line(part_maker.description)
        yield part_maker


def json_of(outcome: Outcome) -> dict[str, Any]:
    """Returns what `--json` prints for a file of a batch."""
    if outcome.report is not None:
        return dataclasses.asdict(outcome.report)
    names = {"source": str(outcome.source), "output": str(outcome.output)}
    if outcome.error is not None:
        return names | {"error": outcome.error}
    return names | {"skipped": "converted by an earlier run"}


def print_outcome(outcome: Outcome) -> None:
    """Prints the result of a file of a batch on stderr."""
    if outcome.error is not None:
        print_line(f"error: {outcome.error}")
    elif outcome.report is None:
        print_line(f"{outcome.output}: skipped, converted by an earlier run")
    else:
        print_report(outcome.report)


def print_report(report: ConversionReport) -> None:
    """Prints the result of a file on stderr, with a line for everything that was lost or changed."""
    from cyclecast.image_formats import FORMATS

    if Path(report.output).suffix.lower() in FORMATS:
        print_line(f"{report.output}: image of {report.width}x{report.height}")
    else:
        resumed = f", {report.resumed_frames} of them from an interrupted run" if report.resumed_frames else ""
        print_line(f"{report.output}: {count_noun(report.frames, 'frame')}{resumed}, {report.fps:.1f} fps, sound {report.audio}")
    for lost in report.dropped:
        print_line(f"{report.output}: left out: {lost}")
    for notice in report.notices:
        print_line(f"{report.output}: {notice}")
    if report.damage:
        print_line(f"error: {report.source}: {report.damage}; what can be decoded is in {report.output}")
