"""A plan lists the files that a batch converts, and the output of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyclecast.errors import ConfigError, InputError
from cyclecast.video.convert.plan import plan_conversions


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(planned: list[tuple[Path, Path]], folder: Path) -> list[str]:
    return [str(source.relative_to(folder)) for source, _ in planned]


def test_folders_and_globs_are_expanded_and_trees_mirrored(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.mp4", "in/sub/b.jpg", "in/sub/c.avi", "in/notes.txt", "d.png")
    out = tmp_path / "out"
    assert plan_conversions([tmp_path / "in"], out) == [
        (tmp_path / "in/a.mp4", out / "a.mp4"),
        (tmp_path / "in/sub/b.jpg", out / "sub/b.jpg"),
        (tmp_path / "in/sub/c.avi", out / "sub/c.mp4"),
    ]
    assert plan_conversions([str(tmp_path / "*.png"), tmp_path / "in/a.mp4"], out) == [
        (tmp_path / "d.png", out / "d.png"),
        (tmp_path / "in/a.mp4", out / "a.mp4"),
    ]


def test_the_output_of_one_file_is_a_file_or_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "d.png", "in/a.mp4")
    assert plan_conversions([tmp_path / "d.png"], tmp_path / "e.jpg") == [(tmp_path / "d.png", tmp_path / "e.jpg")]
    assert plan_conversions([tmp_path / "d.png"], f"{tmp_path}/new/") == [(tmp_path / "d.png", tmp_path / "new/d.png")]
    assert plan_conversions([tmp_path / "d.png"], tmp_path / "in") == [(tmp_path / "d.png", tmp_path / "in/d.png")]


def test_outputs_of_an_earlier_run_are_not_sources(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.mp4", "in/sub/b.jpg", "in/folder.mp4/c.jpg", "in/painted/a.mp4")
    expected = ["in/a.mp4", "in/folder.mp4/c.jpg", "in/sub/b.jpg"]
    assert names(plan_conversions([tmp_path / "in"], tmp_path / "in/painted"), tmp_path) == expected
    assert names(plan_conversions([str(tmp_path / "in/**/*.mp4")], tmp_path / "in/painted"), tmp_path) == ["in/a.mp4"]
    by_the_shell = sorted((tmp_path / "in").iterdir())  # `in/*`, where in/painted is the output
    assert "in/painted/a.mp4" not in names(plan_conversions(by_the_shell, tmp_path / "in/painted"), tmp_path)


def test_plans_without_files_or_with_clashing_outputs_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "one/same.png", "two/same.png")
    one, two = tmp_path / "one" / "same.png", tmp_path / "two" / "same.png"
    with pytest.raises(InputError, match="no images or videos in this folder"):
        plan_conversions([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(InputError, match="matches no file"):
        plan_conversions([str(tmp_path / "*.mp4")], tmp_path / "out")
    with pytest.raises(ConfigError, match="name a folder"):
        plan_conversions([one, two], tmp_path / "out.png")
    with pytest.raises(ConfigError, match="would both become"):
        plan_conversions([one, two], tmp_path / "out")


HIDDEN = (
    ".x.mp4.cyclecast/000000.mp4",
    ".cyclecast-batch.jsonl",
    "._b.mov",
    ".partial",
    ".a.1234.mp4",
    "sub/.trash/c.jpg",
    "sub/._d.png",
    ".trashed-1700000000-f.jpg",
    "@eaDir/g.jpg/SYNOPHOTO_THUMB_XL.jpg",
    "sub/@eaDir/h.jpg",
    "$RECYCLE.BIN/i.mp4",
    "__MACOSX/j.png",
)


@pytest.mark.parametrize("source", [".", "*", "**/*", "**", ".*", "**/.*", "*/.*/*", "**/*.mp4"])
def test_hidden_files_in_a_folder_or_a_glob_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.mp4", "sub/e.mp4", *HIDDEN)
    try:
        planned = plan_conversions([source], tmp_path.parent / "out")
    except InputError as error:
        assert source in (".*", "**/.*", "*/.*/*") and "matches no file" in str(error)
    else:
        assert {str(file) for file, _ in planned} <= {"a.mp4", "sub/e.mp4"} and Path("a.mp4") in [file for file, _ in planned]


def test_formats_that_can_be_decoded_are_converted_and_others_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.DV", "b.f4v", "c.apng", "d.264", "e.m2v", "f.cr2", "g.DNG", "h.dng", "i.svg", "notes.txt", "music.mp3")
    planned = plan_conversions([tmp_path], tmp_path / "out")
    assert [place.name for _, place in planned] == ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"]
    assert caplog.messages == [f"{tmp_path}: 1 .cr2 file, 2 .dng files, 1 .svg file skipped: no decoder for them here"]
    touch(tmp_path, "raw/k.NEF")
    with pytest.raises(
        InputError, match=r"no images or videos in this folder \(1 \.nef file skipped: no decoder for them here\)"
    ):
        plan_conversions([tmp_path / "raw"], tmp_path / "out")


def test_files_of_one_name_in_two_formats_become_two_files(tmp_path: Path) -> None:
    touch(tmp_path, "clip.avi", "clip.mp4", "IMG.HEIC", "IMG.JPG", "two.mpg", "two.ts", "b/clip.avi", "A.png", "a.png")
    planned = plan_conversions([tmp_path], tmp_path / "out")
    assert {str(source.relative_to(tmp_path)): str(place.relative_to(tmp_path / "out")) for source, place in planned} == {
        "clip.avi": "clip.avi.mp4",
        "clip.mp4": "clip.mp4",
        "IMG.HEIC": "IMG.HEIC.jpg",  # IMG.jpg would be IMG.JPG on a Mac
        "IMG.JPG": "IMG.JPG",
        "two.mpg": "two.mpg.mp4",
        "two.ts": "two.ts.mp4",
        "b/clip.avi": "b/clip.mp4",
        "A.png": "A.png",
        "a.png": "a.png",
    }


def test_brackets_in_the_name_of_a_folder_are_no_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "[2020] trip/[a].jpg", "[2020] trip/b*/c.jpg", "2/d.jpg", "2/[x].jpg", "2/x.jpg")
    trip, two = tmp_path / "[2020] trip", tmp_path / "2"
    for source, found in {
        trip: [trip / "[a].jpg", trip / "b*" / "c.jpg"],
        trip / "*.jpg": [trip / "[a].jpg"],
        trip / "**" / "*.jpg": [trip / "[a].jpg", trip / "b*" / "c.jpg"],
        trip / "b*" / "?.jpg": [trip / "b*" / "c.jpg"],
        trip / "[a].jpg": [trip / "[a].jpg"],
        tmp_path / "[2]" / "*": [two / "[x].jpg", two / "d.jpg", two / "x.jpg"],
        two / "[xd].jpg": [two / "d.jpg", two / "x.jpg"],
        two / "[x].jpg": [two / "[x].jpg"],  # it exists
    }.items():
        assert [file for file, _ in plan_conversions([source], tmp_path / "out")] == found, source


@pytest.mark.parametrize(("source", "output", "message"), [("", "out", "a SOURCE is empty"), ("in", "", "OUTPUT is empty")])
def test_an_empty_name_is_an_error(
    source: str, output: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # which an empty name must not mean
    touch(tmp_path, "in/a.mp4")
    with pytest.raises(ConfigError, match=message):
        plan_conversions([source], output)


def test_hidden_files_are_converted_if_named(tmp_path: Path) -> None:
    touch(tmp_path, *HIDDEN)
    file, folder = tmp_path / "._b.mov", tmp_path / "sub" / ".trash"
    assert plan_conversions([file], tmp_path / "b.mp4") == [(file, tmp_path / "b.mp4")]
    for source in (folder, folder / "*.jpg"):
        assert plan_conversions([source], tmp_path / "out") == [(folder / "c.jpg", tmp_path / "out" / "c.jpg")]


@pytest.mark.parametrize("how", ["same", "separator", "dots", "link", "glob", "all files", "recursive glob"])
def test_an_output_folder_that_is_the_source_folder_is_an_error(tmp_path: Path, how: str) -> None:
    photos = tmp_path / "photos"
    touch(photos, "a.jpg", "b.png", "sub/c.jpg")
    (tmp_path / "link").symlink_to(photos)
    source: dict[str, list[str | Path]] = {
        "same": [photos],
        "separator": [f"{photos}/"],
        "dots": [f"{photos}/sub/.."],
        "link": [tmp_path / "link"],
        "glob": [f"{photos}/*"],
        "all files": [photos / "a.jpg", photos / "b.png"],
        "recursive glob": [f"{photos}/**/*.jpg"],
    }
    with pytest.raises(ConfigError) as caught:
        plan_conversions(source[how], photos)
    assert "output folder" in str(caught.value) and "photos-styled" in str(caught.value) and "\n" not in str(caught.value)


def test_a_source_inside_the_output_folder_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "photos/2020/a.jpg")
    with pytest.raises(ConfigError, match="all files lie in the output folder .*photos; name an output folder outside"):
        plan_conversions([tmp_path / "photos/2020"], tmp_path / "photos")
