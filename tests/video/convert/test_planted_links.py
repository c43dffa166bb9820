"""An output folder may come from another person, as in an unpacked archive: links in it lead nowhere, foreign files survive."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cyclecast.errors import OutputError
from cyclecast.video.convert.batch import Outcome, convert_batch
from cyclecast.video.convert.batch_log import BatchLog
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.job import LIST_NAME, LOCK_NAME, Job, folder_of
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files.writer import Part
from tests.conftest import Negative

PRECIOUS = b'{"precious": true}\nand a last line without its end'  # what a reader of JSON lines would cut off
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Writes a file outside of the output folder."""
    path = tmp_path / "home" / "authorized_keys"
    path.parent.mkdir()
    path.write_bytes(PRECIOUS)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Returns an output in a folder of its own."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "out.mp4"


def plant(link: Path, target: Path, how: str) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if how == "symlink":
        link.symlink_to(target)
    elif how == "hard link":
        os.link(target, link)
    else:
        link.symlink_to(target.with_name("new file"))


def assert_untouched(victim: Path) -> None:
    assert victim.read_bytes() == PRECIOUS and [path.name for path in victim.parent.iterdir()] == [victim.name]


def test_a_job_folder_that_is_a_link_is_refused(clip: Path, out: Path, victim: Path) -> None:
    folder_of(out).symlink_to(victim.parent)
    with pytest.raises(
        OutputError, match=r"out\.mp4: cannot be written \(.*\.out\.mp4\.cyclecast is a symbolic link; remove it\)"
    ):
        convert_file(clip, out, Negative(), ConvertOptions(resume=False))
    assert_untouched(victim)
    assert not out.exists() and folder_of(out).is_symlink()


@pytest.mark.parametrize("how", ["symlink", "hard link", "link to a new file"])
@pytest.mark.parametrize("name", [LIST_NAME, "open-000000.mp4", "000000.mp4", "assembled.mp4"])
def test_links_in_a_job_folder_are_replaced(clip: Path, out: Path, victim: Path, name: str, how: str) -> None:
    plant(folder_of(out) / name, victim, how)
    assert convert_file(clip, out, Negative()).frames == 12
    assert_untouched(victim)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("how", ["symlink", "hard link", "link to a new file"])
def test_a_lock_that_is_a_link_is_refused(clip: Path, out: Path, victim: Path, how: str) -> None:
    plant(folder_of(out) / LOCK_NAME, victim, how)
    with pytest.raises(OutputError, match="link; remove it"):
        convert_file(clip, out, Negative())
    assert_untouched(victim)


@pytest.mark.parametrize("name", ["open-000001.mp4", "assembled.mp4"])
def test_links_in_a_job_that_is_resumed_are_replaced(clip: Path, out: Path, victim: Path, name: str) -> None:
    """Whoever planted the folder also knows the signature."""
    with Job(out, {"of": "everything"}) as job:
        first = job.open_path(0)
        first.write_bytes(b"frames")
        job.add_part(0, Part(first, 120, 0, 119, 120, 0), sequential=True)
    (folder_of(out) / name).symlink_to(victim)
    with Job(out, {"of": "everything"}) as job:
        assert job.frames == 120
        path = job.open_path(1) if name.startswith("open") else job.new_file(name)
        path.write_bytes(b"more frames")
        assert path.name == name
    assert_untouched(victim)


def test_a_part_that_is_a_link_is_not_reused(out: Path, victim: Path) -> None:
    """Otherwise, another person's video would become a part of the output."""
    with Job(out, {}) as job:
        first = job.open_path(0)
        first.write_bytes(b"frames")
        job.add_part(0, Part(first, 120, 0, 119, 120, 0), sequential=True)
    part = folder_of(out) / "000000.mp4"
    part.unlink()
    part.symlink_to(victim)
    with Job(out, {}) as job:
        assert job.frames == 0
    assert_untouched(victim)


@pytest.mark.parametrize("path", ["/etc/passwd", "../../home/authorized_keys", "a/../000000.mp4"])
def test_a_list_that_names_files_outside_of_its_folder_is_refused(clip: Path, out: Path, victim: Path, path: str) -> None:
    with Job(out, {}) as job:
        first = job.open_path(0)
        first.write_bytes(b"frames")
        job.add_part(0, Part(first, 120, 0, 119, 120, 0), sequential=True)
    lines = [json.loads(line) for line in (folder_of(out) / LIST_NAME).read_text().splitlines()]
    lines[1]["path"] = path
    (folder_of(out) / LIST_NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(OutputError, match="names a file outside of its folder .*; --no-resume starts over"):
        convert_file(clip, out, Negative())
    assert_untouched(victim)
    assert convert_file(clip, out, Negative(), ConvertOptions(resume=False)).frames == 12


def test_only_files_of_cyclecast_are_deleted(clip: Path, out: Path) -> None:
    foreign = [folder_of(out) / name for name in ("thesis.txt", "photos/1.jpg", "12.mp4", "open-me.txt", "assembled-by-me.mp4")]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    for name in ("000007.mp4", "open-000008.mp4", "assembled.mov"):
        (folder_of(out) / name).touch()
    assert convert_file(clip, out, Negative(), ConvertOptions(resume=False)).frames == 12
    left = [path for path in folder_of(out).rglob("*") if path.is_file()]
    assert sorted(left) == sorted(foreign) and all(path.read_text() == "mine" for path in foreign)


@needs_root
def test_the_job_of_another_user_is_refused(clip: Path, out: Path) -> None:
    folder_of(out).mkdir()
    os.chown(folder_of(out), 54321, 54321)
    with pytest.raises(OutputError, match=r"\.out\.mp4\.cyclecast belongs to another user"):
        convert_file(clip, out, Negative())
    os.chown(out.parent, 54321, 54321)  # as on a mounted disk, where every file has one owner
    assert convert_file(clip, out, Negative()).frames == 12


def convert(clip: Path, folder: Path, messages: list[str]) -> list[Outcome]:
    log = BatchLog(folder, on_message=messages.append)
    planned = [(clip, folder / "a.mp4"), (clip, folder / "season" / "b.mp4")]
    outcomes = list(convert_batch(planned, Negative(), ConvertOptions(), log))
    log.close(all_done=True)
    return outcomes


@pytest.mark.parametrize("how", ["symlink", "hard link", "link to a new file"])
def test_the_list_of_a_batch_that_is_a_link_is_not_used(clip: Path, out: Path, victim: Path, how: str) -> None:
    plant(out.parent / BatchLog.NAME, victim, how)
    messages: list[str] = []
    assert [outcome.error for outcome in convert(clip, out.parent, messages)] == [None, None]
    assert_untouched(victim)
    assert len(messages) == 1 and messages[0].startswith(f"{out.parent / BatchLog.NAME}: cannot be read (")
    assert messages[0].endswith("link; remove it); this batch cannot be resumed")


@pytest.mark.parametrize("name", ["/etc/passwd", "../home/authorized_keys"])
def test_the_list_of_a_batch_names_no_file_outside(clip: Path, out: Path, name: str) -> None:
    (out.parent / BatchLog.NAME).write_text(json.dumps({"output": name, "signature": {}}) + "\n")
    messages: list[str] = []
    assert [outcome.error for outcome in convert(clip, out.parent, messages)] == [None, None]
    assert messages == [
        f"{out.parent / BatchLog.NAME}: cannot be read (it names a file outside of its folder); this batch cannot be resumed"
    ]


def test_a_folder_in_the_output_folder_that_leads_elsewhere_costs_its_files(clip: Path, out: Path, victim: Path) -> None:
    (out.parent / "season").symlink_to(victim.parent)
    one, two = convert(clip, out.parent, [])
    assert one.error is None and two.error is not None
    assert "season is a symbolic link that leads out of" in two.error and str(two.output) in two.error
    assert_untouched(victim)


def test_a_folder_in_the_output_folder_that_leads_to_another_one_there_is_followed(clip: Path, out: Path) -> None:
    (out.parent / "series").mkdir()
    (out.parent / "season").symlink_to("series")
    assert [outcome.error for outcome in convert(clip, out.parent, [])] == [None, None]
    assert (out.parent / "series" / "b.mp4").exists()
