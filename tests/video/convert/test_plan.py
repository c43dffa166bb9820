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
