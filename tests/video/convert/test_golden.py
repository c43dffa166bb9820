"""Later versions read the files that version 0.1.0 wrote.

`tests/golden/convert` holds a source, the folder of a job that was interrupted after its first part, and the log of a batch. Only
the same versions of cyclecast and PyAV resume a job, because others may encode differently; with other versions the format must
still be read, so that the run can say why it starts over.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import av
import pytest

from cyclecast.video.convert.batch_log import BatchLog
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.convert.job import LIST_NAME, Job, folder_of
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files.writer import Part
from tests.conftest import Negative

GOLDEN = Path(__file__).parents[2] / "golden" / "convert"
SIGNATURE = json.loads((GOLDEN / "job" / LIST_NAME).read_text().splitlines()[0])["job"]
OPTIONS = ConvertOptions(preset="ultrafast", crf=30)
CYCLECAST, PYAV, PART_FRAMES = SIGNATURE["version"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The source with its original modification time; the job is beside the output."""
    path = tmp_path / "source.mp4"
    shutil.copy(GOLDEN / "source.mp4", path)
    os.utime(path, ns=(SIGNATURE["source"][1],) * 2)
    shutil.copytree(GOLDEN / "job", folder_of(tmp_path / "out.mp4"))
    return path


def test_the_job_of_an_old_version_is_read(source: Path, tmp_path: Path) -> None:
    with Job(tmp_path / "out.mp4", SIGNATURE) as job:
        assert job.message == "resumed after 120 frames of an interrupted run" and job.source_end is None
        assert job.parts == [Part(job.folder / "000000.mp4", 120, 0, 60928, 61440, 0)]
        point = job.resume_point()
        assert point is not None and (point.frames, point.pts) == (120, 60928)


def test_the_job_of_the_same_versions_is_resumed(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cyclecast.video.convert.signature.__version__", CYCLECAST)
    monkeypatch.setattr(av, "__version__", PYAV)
    messages: list[str] = []
    report = convert_file(source, tmp_path / "out.mp4", Negative(), OPTIONS, on_message=messages.append)
    assert (report.frames, report.resumed_frames) == (150, 120)
    assert messages[0] == "out.mp4: resumed after 120 frames of an interrupted run"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 150


def test_the_job_of_another_version_starts_over_with_a_message(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cyclecast.video.convert.signature.__version__", "99.0")
    messages: list[str] = []
    report = convert_file(source, tmp_path / "out.mp4", Negative(), OPTIONS, on_message=messages.append)
    assert (report.frames, report.resumed_frames) == (150, 0)
    assert messages[0] == "out.mp4: starting over: changed since the interrupted run: version"


def test_the_batch_log_of_an_old_version_is_read(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "batch.jsonl", tmp_path / BatchLog.NAME)
    (tmp_path / "a.mp4").touch()
    messages: list[str] = []
    batch_log = BatchLog(tmp_path, on_message=messages.append)
    signature = {name: value for name, value in SIGNATURE.items() if name not in ("encoder", "place of work")}
    assert batch_log.has(tmp_path / "a.mp4", signature) and messages == []
    assert not batch_log.has(tmp_path / "a.mp4", signature | {"version": ["99.0", PYAV, PART_FRAMES]})
