"""What `convert` says when something is missing, unsupported or forbidden: the file that it is about, in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cyclecast.video.files.images import write_image
from tests.commands import run_command
from tests.conftest import moving_frames
from tests.video.clips import make_video


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fills the current folder: a video of one frame, an image, and files that are neither."""
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "one.mp4", frames=1)
    write_image(tmp_path / "image.png", moving_frames(1, 64, 48)[0])
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "raw.CR2").write_bytes(b"II*\0" + bytes(100))
    return tmp_path


def error_of(*args: object) -> str:
    """Returns the one error line of a conversion that fails."""
    done = run_command("convert", *args)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("notes.txt", "out.jpg", "notes.txt: cannot be read as a video"),
        ("notes.txt", "out.xyz", "notes.txt: cannot be read as a video"),
        ("raw.CR2", "out.jpg", "raw.CR2: camera RAW files are not decoded here"),
        ("raw.CR2", "out/", "raw.CR2: camera RAW files are not decoded here"),
        ("one.mp4", "out.xyz", "out.xyz: no container of that name; there are: .mp4"),
        (
            "one.mp4",
            "out.jpg",
            "out.jpg: the source is a video, which does not become an image; expected an output that ends in .mp4",
        ),
        ("image.png", "out.mp4", "out.mp4: image.png is an image; expected an output that ends in .bmp"),
    ],
)
def test_the_file_that_is_not_supported_is_named(folder: Path, tiny_model: Path, source: str, output: str, message: str) -> None:
    assert error_of(source, output, "-m", tiny_model).startswith(message)
    assert not [path.name for path in folder.iterdir() if "out" in path.name and path.is_file()]


def test_a_missing_output_is_called_that(folder: Path) -> None:
    for words, missing in ((["one.mp4"], "for OUTPUT: missing"), ([], "for SOURCE and OUTPUT: missing")):
        done = run_command("convert", *words)
        assert done.returncode == 2 and missing in done.stderr


def test_json_is_printed_for_a_single_file_that_fails(folder: Path, tiny_model: Path) -> None:
    done = run_command("convert", "notes.txt", "out.mp4", "-m", tiny_model, "--json")
    assert done.returncode == 1 and "error: notes.txt: " in done.stderr
    result = json.loads(done.stdout)
    assert (result["source"], result["output"]) == ("notes.txt", "out.mp4")
    assert result["error"].startswith("notes.txt: cannot be read as a video") and "engine" in result


def test_names_do_not_act_on_the_terminal(folder: Path, tiny_model: Path) -> None:
    name = "a\x1b]0;title\x07\nb.mp4"
    os.rename("notes.txt", name)
    assert error_of(name, "out.mp4", "-m", tiny_model).startswith("a\\x1b]0;title\\x07 b.mp4: cannot be read")
    os.rename("one.mp4", "one\x1b[2J.mp4")
    done = run_command("convert", "one\x1b[2J.mp4", "two\x1b[2J.mp4", "-m", tiny_model)
    assert done.returncode == 0 and "\x1b" not in done.stderr and "two\\x1b[2J.mp4: 1 frame, " in done.stderr


def test_a_pipe_is_refused_with_the_reason(folder: Path, tiny_model: Path) -> None:
    os.mkfifo("pipe.mp4")
    os.mkfifo("pipe.png")
    for name in ("pipe.mp4", "pipe.png"):
        message = error_of(name, f"out{Path(name).suffix}", "-m", tiny_model)
        assert message == f"{name}: is a pipe; expected a file, as it is read several times. Save it to a file first"
    assert error_of("/dev/null", "out.mp4", "-m", tiny_model).startswith("/dev/null: is a device; expected a file")
    message = error_of("one.mp4", "pipe.mp4", "-m", tiny_model, "--overwrite")
    assert message == "pipe.mp4: is a pipe, a socket or a device; expected a file"


def test_permission_is_not_absence(folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.stat

    def stat(path: object, *args: object, **options: object) -> os.stat_result:
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", stat)
    for name in ("closed/one.mp4", "closed/image.png"):
        assert error_of(name, "out.mp4", "-m", tiny_model) == f"{name}: cannot be read (Permission denied)"
    assert error_of("one.mp4", "out.mp4", "-m", "closed/m.onnx") == "closed/m.onnx: cannot be read as a model (Permission denied)"
