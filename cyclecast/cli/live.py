"""The command `live`: styles a camera, a stream or a file in real time."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cyclecast.cli.console import (
    MODEL,
    DeviceOption,
    EngineOption,
    JsonOption,
    OverwriteOption,
    PrecisionOption,
    StrengthOption,
    ThreadsOption,
    WorkHeightOption,
    print_json,
    print_line,
)
from cyclecast.cli.live_inputs import AudioOption, check_web_options, open_models, print_summary, source_address

SOURCE, RECORDING, SENDING, PAGE = "Source", "Recordings", "Network outputs", "Web page"  # headings of --help
REMOTES, PRESETS = "Control and OBS", "Presets"


def live(
    source: Annotated[
        str | None,
        typer.Argument(
            envvar="CYCLECAST_SOURCE",
            help="A camera (0, /dev/video0 or a part of its name; csi://0 on a Jetson), a stream (rtsp://... or http://...), "
            "- (a stream from stdin), screen, browser (the camera of the browser that opens --sink web), "
            "pattern://1280x720@30 (a test pattern), or a file, which is played in real time. Default: 0.",
        ),
    ] = None,
    source_file: Annotated[
        Path | None,
        typer.Option(
            help="Read SOURCE from the first line of this file, so that no list of processes shows its password.",
            rich_help_panel=SOURCE,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help=f"{MODEL} Repeat it to switch between several models while the video runs. Default: monet.",
        ),
    ] = None,
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(
            envvar="CYCLECAST_SINK",
            help="Output: window, virtual (a camera for video calls), web (a web page), null (none, for measurements), a server "
            "(rtmp://, rtmps://, rtsp://, srt://, udp://, whip://), HLS (hls://FOLDER or live.m3u8), or a file to record to, "
            "whose name may be a pattern: show-%Y%m%d-%H%M%S.mp4, show-%04d.mp4. Repeatable. Default: window.",
        ),
    ] = None,
    bitrate: Annotated[
        str,
        typer.Option(
            help="Bits per second of the video to servers and of HLS, at most: 4M, 2500k. Recordings ignore it.",
            rich_help_panel=SENDING,
        ),
    ] = "4M",
    keyframe_interval: Annotated[
        str,
        typer.Option(
            help="Seconds between keyframes of the video to servers and of HLS. Recordings ignore it.", rich_help_panel=SENDING
        ),
    ] = "2",
    audio: AudioOption = "auto",
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Length of the run in seconds, from the first frame. Default: until Ctrl-C.")
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            min=16,
            help="Width in pixels to request from a camera; the maximum for other sources. Default: the source's.",
            rich_help_panel=SOURCE,
        ),
    ] = None,
    height: Annotated[
        int | None,
        typer.Option(
            min=16,
            help="Height in pixels to request from a camera; the maximum for other sources. Default: the source's.",
            rich_help_panel=SOURCE,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Frames per second to request from a camera; the maximum for other sources. Default: the source's.",
            rich_help_panel=SOURCE,
        ),
    ] = None,
    work_height: WorkHeightOption = None,
    strength: StrengthOption = 1.0,
    target_fps: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Lower the processing resolution to hold this many frames per second. Default: keep the resolution."
        ),
    ] = None,
    steady: Annotated[float, typer.Option(min=0, max=1, help="Temporal smoothing, from 0 (off) to 1 (strong).")] = 0.0,
    split: Annotated[bool, typer.Option("--split", help="Show the source in the left half, for comparison.")] = False,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Flip the video horizontally, like a mirror.", rich_help_panel=SOURCE)
    ] = False,
    record_source: Annotated[
        str | None,
        typer.Option(
            help="Also record the source to this file, before it is styled: every captured frame. Names as for --sink.",
            rich_help_panel=RECORDING,
        ),
    ] = None,
    segment_seconds: Annotated[
        float | None,
        typer.Option(
            min=1, help="Begin another file of a recording after this many seconds. Default: one file.", rich_help_panel=RECORDING
        ),
    ] = None,
    segment_mib: Annotated[
        int | None,
        typer.Option(
            min=1, help="Begin another file of a recording at this size in MiB. Default: one file.", rich_help_panel=RECORDING
        ),
    ] = None,
    patience: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            help="Seconds without a frame after which the source is lost. Default: 4, or three times the interval between "
            "its frames if they are rarer.",
            rich_help_panel=SOURCE,
        ),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Wait for a source that cannot be opened at the start. Default: that is an error.",
            rich_help_panel=SOURCE,
        ),
    ] = False,
    loop: Annotated[bool, typer.Option(help="When a file ends: play it again, or end the run.", rich_help_panel=SOURCE)] = True,
    max_viewers: Annotated[
        int,
        typer.Option(min=1, max=100, help="Number of people who may watch the web page at the same time.", rich_help_panel=PAGE),
    ] = 32,
    viewer_mbps: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Bandwidth of each viewer of the web page in Mbit/s, at most. Default: what the resolution needs.",
            rich_help_panel=PAGE,
        ),
    ] = None,
    stun: Annotated[
        str | None,
        typer.Option(
            metavar="stun://HOST:3478",
            help="STUN server for viewers of the web page who are not in this network.",
            rich_help_panel=PAGE,
        ),
    ] = None,
    turn: Annotated[
        str | None,
        typer.Option(
            metavar="turn://USER:PASSWORD@HOST:3478",
            envvar="CYCLECAST_TURN",
            help="TURN server, which relays the video to viewers whom nothing else reaches.",
            rich_help_panel=PAGE,
        ),
    ] = None,
    web_app: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Site of `cyclecast web-app` that the web page links to.", rich_help_panel=PAGE),
    ] = None,
    osc: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Receive OSC over UDP: /cyclecast/style, strength, split, mirror, record, snapshot. Without HOST: from this "
            "machine only. Default: no OSC.",
            rich_help_panel=REMOTES,
        ),
    ] = None,
    obs: Annotated[
        str | None,
        typer.Option(
            metavar="ws://HOST:4455",
            help="Set the audio sync offset in OBS to the measured latency. Its password: CYCLECAST_OBS_PASSWORD, or "
            "ws://PASSWORD@HOST:4455. Default: no OBS.",
            rich_help_panel=REMOTES,
        ),
    ] = None,
    obs_audio: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name of an audio input in OBS. Repeatable. Default: its first microphone.",
            rich_help_panel=REMOTES,
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print frame rate and latency to stderr once a second.")
    ] = False,
    preset: Annotated[
        Path | None,
        typer.Option(
            help="Read the source and all options that are not typed here from this TOML file.", rich_help_panel=PRESETS
        ),
    ] = None,
    save_preset: Annotated[
        Path | None,
        typer.Option(
            help="Write the source and all options that differ from their defaults to this TOML file.", rich_help_panel=PRESETS
        ),
    ] = None,
    save_secrets: Annotated[
        bool,
        typer.Option(
            "--save-secrets",
            help="With --save-preset: also write addresses that may hold a password, a token or a stream key, to a file that "
            "only you can read. Default: that is an error.",
            rich_help_panel=PRESETS,
        ),
    ] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Style a camera, a stream or a file in real time, always the newest frame first.

    Example: cyclecast live 0 --model monet --model pencil --sink window --sink virtual
    """
    from cyclecast.video.live.options import LiveOptions
    from cyclecast.video.live.remotes.registry import remote_openers
    from cyclecast.video.live.session import Session
    from cyclecast.video.live.sinks.network.settings import StreamSettings, parse_bit_rate, parse_keyframe_interval
    from cyclecast.video.live.sinks.recording import Segments
    from cyclecast.video.live.sinks.registry import open_sink
    from cyclecast.video.live.sinks.web_options import WebOptions
    from cyclecast.video.live.sources.source import CaptureSettings

    options = LiveOptions(
        seconds=seconds,
        work_height=work_height,
        strength=strength,
        target_fps=target_fps,
        steady=steady,
        split=0.5 if split else None,
        mirror=mirror,
        audio=audio,
        verbose=verbose,
    )
    streams = StreamSettings(bit_rate=parse_bit_rate(bitrate), keyframe_interval=parse_keyframe_interval(keyframe_interval))
    segments = Segments(seconds=segment_seconds, mib=segment_mib)
    models = model or ["monet"]
    sinks = sink or ["window"]
    web_options = WebOptions(stun=stun, turn=turn, max_viewers=max_viewers, viewer_mbps=viewer_mbps, web_app=web_app)
    check_web_options(web_options, sinks)
    remotes = remote_openers(osc, obs, obs_audio or [])
    opener, facts = open_models(models, engine, device, precision, threads)
    session = Session(
        source_address(source, source_file),
        models,
        opener,
        sinks,
        partial(open_sink, overwrite=overwrite, segments=segments, streams=streams, web_options=web_options),
        CaptureSettings(width, height, fps, loop, patience, wait),
        options,
        print_line,
        remotes=remotes,
        record_source=record_source,
    )
    report = session.run()
    if as_json:
        print_json(dataclasses.asdict(report) | facts)
    else:
        print_summary(report)
    if any(sink_report.failure for sink_report in report.sinks):
        raise typer.Exit(1)
