"""`cyclecast live`: its files, messages and exit codes, in this process; signals and broken pipes, as a process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cyclecast.cli import app
from cyclecast.errors import CyclecastError
from cyclecast.video.clock import read_clock, seconds_since
from cyclecast.video.files.reader import VideoFile
from tests.commands import run_command

LIVE = [sys.executable, "-m", "cyclecast", "live"]
PATTERN = "pattern://320x240@20"


def live(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command("live", *arguments)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*LIVE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until_shown(process: subprocess.Popen[str], frames: int) -> None:
    """Reads what the process prints until it has shown so many frames."""
    assert process.stderr is not None
    for line in process.stderr:
        shown = re.search(r"shown (\d+),", line)
        if shown and int(shown[1]) >= frames:
            return
    raise AssertionError(f"it never showed {frames} frames")


def test_json_has_the_fields_that_scripts_rely_on() -> None:
    done = live(PATTERN, "--model", "monet", "--sink", "null", "--seconds", "1.5", "--json", "--verbose")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["captured"] == report["shown"] + report["skipped"]
    assert report["shown"] >= 10 and report["fps"] > 5
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p95"] <= report["latency_ms"]["p99"]
    assert report["reconnects"] == 0
    assert report["engine"] == "openvino" and report["precision"] in ("int8", "bf16", "fp32") and report["device"]
    assert "monet on openvino" in done.stderr
    assert "fps, latency" in done.stderr and "pattern: 320x240 at 20 fps" in done.stderr


def test_a_recording_has_each_frame_at_its_time(tmp_path: Path) -> None:
    paths = [tmp_path / "video.mp4", tmp_path / "video.mkv"]
    arguments = ["--strength", "0.2", "--seconds", "1.5", "--json"]  # little style, so that the clock in the pattern is readable
    done = live(PATTERN, "--model", "monet", "--sink", str(paths[0]), "--sink", str(paths[1]), *arguments)
    assert done.returncode == 0, done.stderr
    for path, sink in zip(paths, json.loads(done.stdout)["sinks"], strict=True):
        with VideoFile(path) as video:
            frames = list(video)
            assert (video.info.width, video.info.height) == (320, 240)
            base = video.info.time_base
        assert len(frames) == sink["shown"]
        clocks = [(float(frame.pts * base), read_clock(frame.image)) for frame in frames]
        read = [(at, clock) for at, clock in clocks if clock is not None]
        assert len(read) > len(frames) // 2
        for at, clock in read:
            assert seconds_since(read[0][1], clock) == pytest.approx(at - read[0][0], abs=0.002)
        assert base <= Fraction(1, 1000)


def test_a_recording_that_is_killed_can_be_played(tmp_path: Path) -> None:
    """It stays under its temporary name, and an older file stays what it was."""
    (tmp_path / "old.mp4").write_bytes(b"mine")
    sinks = ["--sink", str(tmp_path / "old.mp4"), "--sink", str(tmp_path / "new.mkv"), "--overwrite"]
    process = start("pattern://320x240@30", "--model", "monet", *sinks, "--verbose")

    def temporary(stem: str) -> Path:
        (path,) = tmp_path.glob(f"{stem}.recording-*")
        return path

    wait_until_shown(process, 45)
    limit = time.monotonic() + 60
    while min(temporary(stem).stat().st_size for stem in ("old", "new")) < 20_000 and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    for path in (temporary("old"), temporary("new")):
        with VideoFile(path) as video:
            assert len(list(video)) >= 20
    assert (tmp_path / "old.mp4").read_bytes() == b"mine"
    assert not (tmp_path / "new.mkv").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["ctrl-c", "sighup"])
def test_a_signal_ends_the_run_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    process = start(PATTERN, "--model", "monet", "--sink", str(path), "--sink", "null", "--json", "--verbose")
    wait_until_shown(process, 5)
    process.send_signal(number)
    assert_ends_cleanly(process, path)


def assert_ends_cleanly(process: subprocess.Popen[str], recording: Path) -> None:
    """Checks the exit code, the report and the recording, which is its first sink."""
    out, printed = process.communicate(timeout=30)
    assert process.returncode == 0, printed
    assert json.loads(out)["shown"] > 0
    with VideoFile(recording) as video:
        assert video.damage is None
        assert len(list(video)) == json.loads(out)["sinks"][0]["shown"]


def test_a_run_without_a_reader_of_its_messages_ends_as_if_it_had_one() -> None:
    """A full disk from the start; a pipe whose reader has gone."""
    command = [*LIVE, PATTERN, "--model", "monet", "--sink", "null", "--seconds", "0.5", "--json", "--verbose"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True, timeout=120)
    assert (done.returncode, json.loads(done.stdout)["shown"] > 0) == (0, True)
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=write_end, text=True, timeout=120)
    os.close(write_end)
    assert (done.returncode, json.loads(done.stdout)["shown"] > 0) == (0, True)


def test_nohup_keeps_a_run_alive_when_its_terminal_closes_and_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    command = ["nohup", *LIVE, PATTERN, "--model", "monet", "--sink", str(path), "--sink", "null", "--json", "--verbose"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until_shown(process, 3)
    process.send_signal(signal.SIGHUP)
    wait_until_shown(process, 10)
    process.send_signal(signal.SIGTERM)
    assert_ends_cleanly(process, path)


def test_several_models_and_sinks(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    arguments = ["--model", "monet", "--model", "pencil", "--sink", "null", "--sink", str(path), "--seconds", "0.5"]
    done = live(
        PATTERN, *arguments, "--split", "--mirror", "--steady", "0.5", "--work-height", "120", "--strength", "0.5", "--json"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [one["name"] for one in report["sinks"]] == ["null", str(path)]
    assert (report["work_height"], report["strength"]) == (120, 0.5)


def test_no_loop_ends_the_run_with_the_file(clip: Path) -> None:
    done = live(str(clip), "--model", "monet", "--sink", "null", "--no-loop", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["captured"] == 12 and report["reconnects"] == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["absent.mp4", "--sink", "null"], "absent.mp4: no such file"),
        (["absent.mp4", "--sink", "there.mp4", "--overwrite"], "absent.mp4: no such file"),
        (["pattern://5x5", "--sink", "null"], "pattern://5x5: "),
        ([PATTERN, "--sink", "video.txt"], "video.txt: expected window, virtual, web, null, or a file to record to"),
        ([PATTERN, "--sink", "there.mp4"], "there.mp4: exists already; --overwrite replaces it"),
        ([PATTERN, "--sink", "new.mp4", "--sink", "./new.mp4"], "./new.mp4: two sinks record to this file"),
        ([PATTERN, "--sink", "null", "--save-secrets"], "--save-secrets needs --save-preset FILE"),
        ([PATTERN, "--sink", "null", "--bitrate", "1"], "bitrate: expected from 50k to 200M (bits per second), got 1"),
        (
            [PATTERN, "--sink", "hls://on", "--sink", "./on/live.m3u8#bitrate=2M"],
            "./on/live.m3u8#bitrate=2M: two sinks record to",
        ),
        (["there.mp4", "--sink", "there.mp4", "--overwrite"], "there.mp4: is the source"),
        (["browser", "--sink", "null"], "the source 'browser' needs the web page: add --sink web"),
        ([PATTERN, "--sink", "null", "--model", "absent"], "absent: no such file, and no bundled model of that name"),
        ([PATTERN, "--sink", "null", "-m", "monet", "-m", "absent"], "absent: no such file, and no bundled model"),
        ([PATTERN, "--sink", "null", "--engine", "none"], "no engine named 'none'"),
        (["/dev/video77", "--sink", "null"], "camera /dev/video77: cannot be opened"),
    ],
)
def test_bad_input_is_an_error_in_one_line(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.mp4").write_bytes(b"mine")
    outcome = CliRunner().invoke(app, ["live", *arguments, "--seconds", "1"])
    assert isinstance(outcome.exception, CyclecastError)
    assert str(outcome.exception).startswith(line) and "\n" not in str(outcome.exception)
    assert (tmp_path / "there.mp4").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.mp4"]


def test_an_error_is_one_line_and_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = live("absent.mp4", "--sink", "show.mp4")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: absent.mp4: no such file") and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_help_groups_the_options() -> None:
    printed = run_command("live", "--help").stdout
    headings = ["Options", "Source", "Network outputs", "Recordings", "Web page", "Control and OBS", "Presets"]
    places = [printed.index(f"─ {heading} ─") for heading in headings]
    assert places == sorted(places) and printed.count("─ ") == len(headings) + 1, "and the arguments"
    assert "--stun" in printed[places[4] : places[5]] and "--obs-audio" in printed[places[5] : places[6]]
