"""A lost live source is opened again, and no process, handle or memory is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyclecast.errors import InputError
from cyclecast.video.clock import read_clock, seconds_since
from cyclecast.video.live.capture import client as capture_module
from cyclecast.video.live.capture.client import Capture
from tests.video.live.sessions import take_frames
from tests.video.live.streams import ROOT, Sender

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")

LIMIT = 30.0  # seconds for each wait
PATTERN = "pattern://160x120@30"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the delays between attempts."""
    monkeypatch.setattr(capture_module, "RETRY_DELAYS_S", (0.2, 0.4))


@pytest.fixture
def rtsp() -> Iterator[Sender]:
    with Sender("rtsp") as sender:
        yield sender


def wait_for(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit, "timed out"
        time.sleep(0.01)


def children(parent: int) -> list[int]:
    """Lists the ids of this process's capture processes."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, ppid = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z" and b"capture.process" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


def has_exited(process: int) -> bool:
    """Returns whether the process has exited, also if its parent has not waited for it yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def shared_memory() -> list[str]:
    """Lists the names of shared memory that this process has mapped; one ends in (deleted) where the name has been removed."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line.partition("/dev/shm/psm_")[2] for line in lines if "/dev/shm/psm_" in line]


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_server_that_restarts_three_times_is_opened_again_each_time(rtsp: Sender) -> None:
    messages: list[str] = []
    with Capture(rtsp.address("/live"), on_message=messages.append) as capture:
        numbers = [one.number for one in take_frames(capture, 10)]
        for turn in range(3):
            rtsp.kill()
            wait_for(lambda: capture.outage)
            before = capture.captured
            rtsp.start()
            wait_for(lambda t=turn: capture.reconnects == t + 1)  # type: ignore[misc]
            assert capture.outage is None and capture.captured > before
            captured = take_frames(capture, 10)
            numbers += [one.number for one in captured]
            clocks = [read_clock(one.image) for one in captured]
            assert all(
                value is not None and seconds_since(value, one.at) < 1 for value, one in zip(clocks, captured, strict=True)
            )
        assert numbers == sorted(set(numbers)) and capture.captured >= numbers[-1]
        assert capture.reconnects == 3
    name = rtsp.address()
    outages = [line for line in messages if line.startswith(f"{name} is gone: the ")]  # stream has ended, or connection is lost
    assert len(outages) == 3 and all(line.endswith("; trying again until it is back") for line in outages)
    assert sum(line.startswith(f"{name} is back after ") for line in messages) == 3


def test_a_silent_server_is_disconnected_and_opened_again(rtsp: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections stay open, so only the missing frames show the outage."""
    monkeypatch.setattr(capture_module, "FRAME_TIMEOUT_S", 1.5)
    messages: list[str] = []
    with Capture(rtsp.address("/live"), on_message=messages.append) as capture:
        take_frames(capture, 5)
        (first,) = children(os.getpid())
        rtsp.stop()
        start = time.monotonic()
        wait_for(lambda: capture.outage)
        assert 1 < time.monotonic() - start < 4
        wait_for(lambda: first not in children(os.getpid()))
        rtsp.resume()
        wait_for(lambda: capture.reconnects == 1)
        take_frames(capture, 5)
        assert len(children(os.getpid())) == 1
    assert any(line.endswith("is gone: no frame within 1.5 s; trying again until it is back") for line in messages)


def test_a_killed_capture_process_is_replaced_and_leaves_nothing_behind() -> None:
    with Capture(PATTERN) as capture:  # what Python keeps for ever is there from now on
        take_frames(capture, 1)
    gc.collect()
    threads, open_before = threading.active_count(), handles()
    with Capture(PATTERN) as capture:
        take_frames(capture, 3)
        in_use, at_work = handles(), threading.active_count()
        sizes = []
        for turn in range(5):
            (process,) = children(os.getpid())
            os.kill(process, signal.SIGKILL)
            wait_for(lambda t=turn: capture.reconnects == t + 1)  # type: ignore[misc]
            take_frames(capture, 3)
            (memory,) = set(shared_memory())
            assert memory.endswith("(deleted)"), "it would stay if all of us were killed at once"
            sizes.append(resident())
        assert (handles(), threading.active_count()) == (in_use, at_work)
        assert sizes[-1] - sizes[0] < 4 << 20
    assert shared_memory() == [] and children(os.getpid()) == []
    assert (handles(), threading.active_count()) == (open_before, threads)


def test_a_lost_source_is_tried_again_and_the_reason_is_reported(rtsp: Sender) -> None:
    with Capture(rtsp.address("/live")) as capture:
        take_frames(capture, 3)
        rtsp.kill()
        wait_for(lambda: capture.outage and capture.outage[1] > 2)
        assert capture.take(0.01) is None
        assert capture.outage is not None and rtsp.address() not in capture.outage[0]
        rtsp.start()
        take_frames(capture, 3)


def test_a_named_pipe_is_read_again_when_its_writer_returns(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Sender("pipe", port=str(tmp_path / "pipe")) as sender, Capture(sender.address()) as capture:
        take_frames(capture, 3)
        sender.kill()
        wait_for(lambda: capture.outage)
        sender.start()
        take_frames(capture, 3)
        assert capture.reconnects == 1


@pytest.mark.parametrize("path", ["/silent", "pipe"])
def test_close_does_not_wait_for_a_source_that_blocks(path: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Sender("http") as sender:
        capture = Capture(sender.address(path) if path == "/silent" else str(tmp_path / path))
        wait_for(lambda: children(os.getpid()))
        assert capture.take(1.0) is None
        start = time.monotonic()
        capture.close()
        assert time.monotonic() - start < 1.5
    assert children(os.getpid()) == []


def test_close_works_at_any_moment_of_the_start() -> None:
    for delay in (0.0, 0.001, 0.01, 0.05, 0.2):
        capture = Capture(PATTERN)
        time.sleep(delay)
        capture.close()
        assert children(os.getpid()) == [] and shared_memory() == []
        with pytest.raises(EOFError):
            capture.take(LIMIT)


def test_a_source_that_never_opened_is_not_tried_again() -> None:
    with Capture("rtsp://127.0.0.1:1/live") as capture:
        for _ in range(2):
            with pytest.raises(InputError, match="connection refused"):
                capture.take(LIMIT)
        assert children(os.getpid()) == [] and capture.reconnects == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_capture_process_ends_with_its_killed_reader(number: signal.Signals, rtsp: Sender) -> None:
    code = (
        "import sys, time\n"
        "from cyclecast.video.live.capture.client import Capture\n"
        "capture = Capture(sys.argv[1])\n"
        "while capture.take(1) is None: pass\n"
        "print('there', flush=True)\n"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", code, rtsp.address("/live")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "there\n"
        (child,) = children(parent.pid)
        maps = Path(f"/proc/{child}/maps").read_text()
        assert "/dev/shm/psm_" in maps
        parent.send_signal(number)
        wait_for(lambda: has_exited(child))
        parent.communicate(timeout=LIMIT)
    names = {line.split("/dev/shm/")[1].split()[0] for line in maps.splitlines() if "/dev/shm/psm_" in line}
    assert not names & set(os.listdir("/dev/shm"))
