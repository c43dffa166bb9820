"""`live --preset` and `--save-preset`: what is written is read again, what is typed wins, and every mistake names its key."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cyclecast.cli.presets import has_credentials, may_hold_secret
from tests.commands import run_command

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PATTERN = "pattern://160x96@30"


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, and the one in which commands run, which is another one."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "show").mkdir()
    shutil.copyfile(tiny_model, tmp_path / "show/tiny.onnx")
    return tmp_path / "show"


def live(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_command("live", *arguments)


def test_a_saved_preset_runs_again_and_typed_options_win(folder: Path, tmp_path: Path) -> None:
    preset = folder / "show.toml"
    run = (PATTERN, "-m", "../show/tiny.onnx", "--sink", "null", "--sink", "../show/%04d.mp4", "--seconds", 0.3)
    hls = ("--sink", "../show/a.m3u8#bitrate=1M", "--sink", "hls://../show/b")
    assert live(*run, *hls, "-m", "absent.onnx", "--save-preset", "../show/show.toml").returncode == 1
    assert tomllib.loads(preset.read_text())["sink"][2:] == ["a.m3u8#bitrate=1M", "hls://b"]
    done = live(*run, "--target-fps", 25, "--no-loop", "--save-preset", "../show/show.toml", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert tomllib.loads(preset.read_text()) == {
        "source": PATTERN,
        "model": ["tiny.onnx"],
        "sink": ["null", "%04d.mp4"],
        "seconds": 0.3,
        "target-fps": 25.0,
        "loop": False,
    }
    assert (folder / "0001.mp4").is_file()
    shutil.move(folder, tmp_path / "moved")  # with all that belongs to it
    done = live("--preset", "../moved/show.toml", "--sink", "new.mp4", "--strength", 0.5, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["source"], report["strength"], report["sinks"][0]["name"]) == (PATTERN, 0.5, "new.mp4")
    assert Path("new.mp4").is_file(), "a typed path is relative to the current folder"
    assert not (tmp_path / "moved/0002.mp4").exists(), "a typed sink replaces those of the preset"
    done = live("--preset", "../moved/show.toml", "--save-preset", "../moved/show.toml")
    assert done.returncode == 1 and "exists already; --overwrite replaces it" in done.stderr


def test_paths_are_relative_to_the_preset(folder: Path) -> None:
    for key, value in (("source", "clip.mp4"), ("source-file", "address.txt"), ("model", "absent.onnx")):
        (folder / "show.toml").write_text(f"{key} = {json.dumps([value] if key == 'model' else value)}\n")
        Path(value).touch()  # of the same name in the current folder
        done = live("--preset", folder / "show.toml", "--sink", "null", "-m", folder / "tiny.onnx" if key != "model" else "monet")
        if key == "model":  # typed ones win
            done = live("--preset", folder / "show.toml", "--sink", "null")
        assert done.returncode == 1 and f"error: {folder / value}: no such file" in done.stderr, done.stderr
    (folder / "show.toml").write_text('sink = ["web://127.0.0.1:0?cert=c.pem&key=/k.pem"]\n')
    done = live(PATTERN, "--preset", folder / "show.toml", "-m", folder / "tiny.onnx")
    assert f"no such file: {folder / 'c.pem'}" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width = 640\nspeed = 3", "speed: no such option; expected one of source, source-file, model"),
        ('width = "640"', "width: expected a whole number, got '640'"),
        ("seconds = true", "seconds: expected a number, got True"),
        ("mirror = 1", "mirror: expected true or false, got 1"),
        ("model = 'monet'", "model: expected a list of texts, got 'monet'"),
        ("sink = [1]", "sink: expected a list of texts, got a list"),
        ("[source]\nname = 0", "source: expected text, got a table"),
        ("width = 3", "width: 3: "),
        ("overwrite = true", "overwrite: a preset cannot set this; type --overwrite"),
        ("steady = ", "not a preset in TOML (Invalid value (at "),
        ("steady = 0.5\nsteady = 1", "not a preset in TOML (Cannot overwrite a value"),
        (b"\xff\xfe", "not a preset in TOML ('utf-8' codec"),
        (None, "no such file"),
    ],
)
def test_a_wrong_preset_is_one_line_that_names_the_key(folder: Path, text: str | bytes | None, message: str) -> None:
    preset = folder / "bad.toml"
    if text is not None:
        preset.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = live("--preset", preset)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {preset}: {message}"), done.stderr


def test_secrets_are_saved_only_if_that_is_typed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset, absent = folder / "show.toml", ("-m", "absent.onnx")  # the run ends after the preset is written
    for arguments in (["rtsp://10.0.0.7/anna"], [PATTERN, "--sink", "web?token=SECRETSECRET"]):
        done = live(*arguments, *absent, "--save-preset", preset)
        assert done.returncode == 1 and "--save-secrets saves it" in done.stderr and done.stderr.count("\n") == 1
        assert not preset.exists() and "anna" not in done.stderr and "SECRETS" not in done.stderr
    monkeypatch.setenv("CYCLECAST_SOURCE", "rtsp://anna:SECRET@10.0.0.7/x")
    assert "absent.onnx: no such file" in live(*absent, "--sink", "web://0.0.0.0:1", "--save-preset", preset).stderr
    assert tomllib.loads(preset.read_text()) == {"model": [str(Path("absent.onnx").absolute())], "sink": ["web://0.0.0.0:1"]}
    live("rtsp://anna:SECRET@10.0.0.7/x", *absent, "--save-preset", preset, "--save-secrets", "--overwrite")
    assert "anna:SECRET@" in preset.read_text()
    if sys.platform != "win32":
        assert stat.S_IMODE(preset.stat().st_mode) == 0o600


def test_which_addresses_may_hold_a_secret() -> None:
    for secret in (
        "rtmp://h/live/KEY",
        "rtmps://h/app#bitrate=6M",
        "srt://h:1?passphrase=SECRET",
        "whip+https://h#token=SECRET",
        "udp://user:SECRET@h:1#bitrate=6M",
        "ws://SECRET@h:4455",
        "turn://user:SECRET@h:3478",
        "web://0.0.0.0:1?token=SECRET",
    ):
        assert may_hold_secret(secret), secret
    for plain in (
        "udp://h:1#bitrate=6M",
        "hls://on#bitrate=6M",
        "on.m3u8",
        "ws://h:4455",
        "web://h:1?cert=c&key=k",
        "monet",
        "show.mp4",
    ):
        assert not may_hold_secret(plain), plain
    assert has_credentials("https://user:SECRET@h/x.onnx") and has_credentials("https://h/x.onnx?key=SECRET")
    assert not any(map(has_credentials, ("https://h/x.onnx#sha256=ab", "hf:user/name@main", "a@b?.onnx")))
