"""No error prints a token, no list of processes has to show one, and a recording is written to its own file only."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cyclecast.errors import ConfigError, CyclecastError, OutputError, OutputExistsError
from cyclecast.video.live.recorder import unused_path
from cyclecast.video.live.sinks.recording import Recording
from cyclecast.video.live.sinks.registry import open_sink
from cyclecast.video.live.sound.feed import SoundFeed
from cyclecast.video.live.styling.styled_frame import StyledFrame
from tests.commands import run_command
from tests.conftest import moving_frames
from tests.video.live.served import parse_address

SECRET = "s3cr3t-t0ken"


class Controls:
    """What a recording needs of a session."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.sound = SoundFeed()

    def report(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(
    "address",
    [
        f"web://0.0.0.0:8080?token={SECRET}!",
        f"web://0.0.0.0:8080?token={SECRET}&cert=a.pem",
        f"web://0.0.0.0:8080?token={SECRET}&unknown=1",
        f"web://0.0.0.0:8080?token={SECRET}&cert=a.pem&key=b.pem",
        f"web://0.0.0.0:99999?token={SECRET}",
        f"web://0.0.0.0:{SECRET}",
        f"web://0.0.0.0:8080?{SECRET}",
        f"web://0.0.0.0:8080/{SECRET}/",
        f"web://user:{SECRET}@[0.0.0.0:8080",
        f"webb://0.0.0.0:8080?token={SECRET}",
        f"rtmpx://user:{SECRET}@live.example/app",
        f"rtmp://user:{SECRET}@live.example/app#key={SECRET}",
        f"https://live.example/app?key={SECRET}",
    ],
)
def test_no_error_prints_a_token(address: str) -> None:
    with pytest.raises(CyclecastError) as raised:
        open_sink(address, Controls())  # type: ignore[arg-type]
    assert SECRET not in str(raised.value) and "\n" not in str(raised.value)


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLECAST_TOKEN", SECRET)
    for address in ("web", "web://0.0.0.0:8080"):
        parsed = parse_address(address)
        assert parsed.token == SECRET and parsed.is_token_chosen
    assert parse_address("web://0.0.0.0:8080?token=another-one").token == "another-one"
    monkeypatch.setenv("CYCLECAST_TOKEN", "short")
    with pytest.raises(ConfigError, match="CYCLECAST_TOKEN: a token needs 8 or more letters") as raised:
        parse_address("web")
    assert "short" not in str(raised.value)


def live(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cyclecast", "live", *map(str, arguments), "--sink", "null", "--model", "monet"]
    return subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", ["file", "environment"])
def test_the_source_need_not_be_in_the_list_of_processes(how: str, tmp_path: Path) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("no /proc here")
    address = f"http://user:{SECRET}@127.0.0.1:9/live?key={SECRET}"
    (tmp_path / "source.txt").write_text(f"{address}\n")
    process = live("--source-file", tmp_path / "source.txt") if how == "file" else live(CYCLECAST_SOURCE=address)
    with process:
        shown = ""
        while process.poll() is None:
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    shown += entry.read_bytes().decode("utf-8", "replace")
                except OSError:
                    continue
            time.sleep(0.05)
        assert process.stderr is not None
        printed = process.stderr.read()
    assert "cyclecast" in shown and SECRET not in shown
    assert "connection refused" in printed and SECRET not in printed


def test_a_source_file_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n\n")
    (tmp_path / "source").write_text("pattern://320x240@30\n")
    for arguments, message in (
        (["--source-file", tmp_path / "missing"], "no such file"),
        (["--source-file", tmp_path / "empty"], "expected the address of a source in the first line"),
        (["0", "--source-file", tmp_path / "source"], "expected SOURCE or --source-file, got both"),
    ):
        done = run_command("live", *arguments, "--sink", "null", "--seconds", "1")
        assert done.returncode == 1 and message in done.stderr.splitlines()[-1]


def styled(number: int) -> StyledFrame:
    image = moving_frames(1)[0]
    return StyledFrame(number + 1, number / 25, image, image, "same")


def recording(path: Path, **options: Any) -> Recording:
    return Recording(str(path), Controls(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_a_recording_is_written_to_the_file_that_it_created(tmp_path: Path, suffix: str) -> None:
    """Between its creation and its first frame, another user puts a link in its place."""
    victim = tmp_path / "authorized_keys"
    victim.write_text("precious")
    sink = recording(tmp_path / f"show{suffix}")
    (temporary,) = tmp_path.glob("show.recording-*")
    temporary.unlink()
    temporary.symlink_to(victim)
    for number in range(5):
        sink.show(styled(number))
    with pytest.raises(OutputError, match="another program has replaced"):
        sink.close()
    assert victim.read_text() == "precious" and not (tmp_path / f"show{suffix}").exists()


def test_a_recording_replaces_no_file_that_appears_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = recording(tmp_path / "show.mp4")
    sink.show(styled(0))

    def appearing(check: Callable[..., bool]) -> Callable[..., bool]:
        def appear(*arguments: object) -> bool:
            found = check(*arguments)
            (tmp_path / "show.mp4").write_text("precious")  # just after everything was checked
            return found

        return appear

    for name in ("lexists", "samestat"):
        monkeypatch.setattr(os.path, name, appearing(getattr(os.path, name)))
    with pytest.raises(OutputExistsError, match="another program has written it meanwhile"):
        sink.close()
    assert (tmp_path / "show.mp4").read_text() == "precious" and list(tmp_path.glob("show.recording-*"))


def test_an_unused_name_is_none_of_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = unused_path(".mp4")
    first.symlink_to(tmp_path / "nowhere")
    assert not os.path.lexists(unused_path(".mp4"))
