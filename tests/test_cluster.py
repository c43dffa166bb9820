"""Parts of a film on workers of Ray: two of this machine, then two hosts with nothing in common; what dies midway is replaced.

The hosts are namespaces: each its own network, processes and mounts, and the second one sees no file of these tests.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks.killed import content
from cyclecast.video.convert.job import folder_of
from cyclecast.video.convert.parts import PART_FRAMES

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")


def command(clip: Path, out: Path, model: Path, *more: str) -> list[str]:
    program = [sys.executable, "-m", "cyclecast", "convert"]
    return [*program, str(clip), str(out), "-m", str(model), "--preset", "slower", "--json", *more]


def workers_of(process: int) -> Iterator[int]:
    """Processes below this one that are making a part."""
    parents, making = {}, []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            if Path(f"/proc/{entry}/cmdline").read_text().startswith("ray::make_part"):
                making.append(int(entry))
        except OSError:  # it has ended
            continue
    for worker in making:
        above = worker
        while above in parents and above != process:
            above = parents[above]
        if above == process:
            yield worker


def test_a_worker_that_dies_is_replaced_and_the_film_is_the_same(long_clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    alone, spread = tmp_path / "alone.mp4", tmp_path / "spread.mp4"
    subprocess.run(command(long_clip, alone, tiny_model), check=True, capture_output=True)
    process = subprocess.Popen(
        command(long_clip, spread, tiny_model, "--cluster", "auto"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    killed = None
    while killed is None and process.poll() is None:
        if list(folder_of(spread).glob("0*.mp4")):
            killed = next(workers_of(process.pid), None)
        time.sleep(0.005)
    assert killed is not None, process.communicate()
    os.kill(killed, signal.SIGKILL)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    report = json.loads(out)
    assert report["frames"] == 3 * PART_FRAMES + 10 and report["damage"] is None
    assert "Ray, 1 machine" in errors
    assert content(spread) == content(alone)
    assert spread.read_bytes() == alone.read_bytes()


OWN = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]  # before a command


class Host:
    """A machine of its own: a node of Ray at 10.77.0.`number`, the first of which is the head; `hidden` is empty there."""

    def __init__(self, number: int, hidden: Path | None = None) -> None:
        ray_start = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus", "1"]
        where = ["--head", "--port", "6379", "--include-dashboard=false"] if number == 1 else ["--address", "10.77.0.1:6379"]
        script = f"""set -e
            mkdir -p /tmp/ray
            for folder in {shlex.join(["/dev/shm", "/tmp/ray", *([str(hidden)] if hidden else [])])}; do
                mount -t tmpfs tmpfs "$folder"
            done
            ip link set lo up
            ip address add 10.77.0.{number} dev lo  # not of the wire, which is gone when the other end is
            until ip link set wire up 2> /dev/null; do sleep 0.05; done
            ip route add 10.77.0.0/24 dev wire src 10.77.0.{number}
            until [ {number} = 1 ] || (exec 3<> /dev/tcp/10.77.0.1/6379) 2> /dev/null; do sleep 0.05; done
            exec {shlex.join([*ray_start, *where])} --node-ip-address 10.77.0.{number} --object-store-memory 200000000"""
        self._process = subprocess.Popen(
            [*OWN, "bash", "-c", script], env=self.env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        while not (found := children.read_text().split()):
            assert self._process.poll() is None
            time.sleep(0.01)
        self.pid = int(found[0])

    @staticmethod
    def env() -> dict[str, str]:
        """A host that is gone is missed in seconds; the rest keeps Ray from asking for what is not at hand."""
        missed = {"RAY_health_check_period_ms": "1000", "RAY_health_check_initial_delay_ms": "1000"}
        return {**os.environ, **missed, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "TMPDIR": "/tmp/ray"}

    def start(self, *command: str) -> subprocess.Popen[str]:
        inside = ["nsenter", "--target", str(self.pid), "--net", "--mount", "--pid", "--"]
        return subprocess.Popen([*inside, *command], env=self.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def sent(self, name: str = "cyclecast-*") -> list[Path]:
        """What lies in its folder of temporary files."""
        return list(Path(f"/proc/{self.pid}/root/tmp/ray").glob(name))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


AWAIT_TWO = """import ray, time
while not ray.is_initialized():
    try:
        ray.init("auto")
    except ConnectionError:
        time.sleep(0.1)
while len(ray.nodes()) < 2:
    time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    """Two, joined by a wire. The second sees no file of these tests."""
    if not all(map(shutil.which, ("bash", "ip", "nsenter", "unshare"))) or os.geteuid() != 0:
        pytest.skip("namespaces take root, and the programs ip, nsenter and unshare")
    made = subprocess.run([*OWN, "ip", "link", "add", "wire", "type", "veth"], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no namespaces here: {made.stderr.strip()}")
    one, two = Host(1), Host(2, hidden=tmp_path_factory.getbasetemp())
    try:
        wire = f"ip link add wire netns {one.pid} type veth peer name wire netns {two.pid}"
        subprocess.run(wire.split(), check=True)
        asking = one.start(sys.executable, "-c", AWAIT_TWO)
        _, errors = asking.communicate(timeout=120)
        assert asking.returncode == 0, errors
        yield one, two
    finally:
        one.kill()
        two.kill()


HARDER = ("--work-height", "192", "--preset", "ultrafast")  # so that a part takes a while


def test_hosts_that_have_not_the_film_are_sent_it(
    hosts: tuple[Host, Host], long_clip: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """A worker of the second dies; then the source changes; then all of the second dies."""
    one, two = hosts
    clip, alone = tmp_path / "clip.mp4", tmp_path / "alone.mp4"
    shutil.copy(long_clip, clip)
    subprocess.run(command(clip, alone, tiny_model, *HARDER), check=True, capture_output=True)

    def submit_frame(out: Path) -> tuple[subprocess.Popen[str], int]:
        """A conversion, and a worker of the second host that has its copy and is at a part."""
        process = one.start(*command(clip, out, tiny_model, *HARDER, "--cluster", "10.77.0.1:6379"))
        while process.poll() is None:
            if two.sent("cyclecast-*/*/*/part.mp4") and (worker := next(workers_of(two.pid), None)):
                return process, worker
            time.sleep(0.005)
        raise AssertionError(process.communicate())

    def is_same(process: subprocess.Popen[str], out: Path) -> bool:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0 and "Ray, 2 machines" in errors, errors
        return out.read_bytes() == alone.read_bytes()

    process, worker = submit_frame(tmp_path / "worker.mp4")
    assert [path.read_bytes() == clip.read_bytes() for path in two.sent("cyclecast-*/*/source.mp4")] == [True]
    assert not one.sent("cyclecast-*/*/source.mp4")
    os.kill(worker, signal.SIGKILL)
    assert is_same(process, tmp_path / "worker.mp4")
    assert not one.sent() and not two.sent()

    process, _ = submit_frame(tmp_path / "changed.mp4")
    os.utime(clip)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in errors
    assert f"error: {clip}: was changed while it was converted" in errors.splitlines()[-1]
    assert not one.sent() and not two.sent()

    process, _ = submit_frame(tmp_path / "host.mp4")
    two.kill()
    assert is_same(process, tmp_path / "host.mp4")
    assert not one.sent()


def test_what_killed_runs_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cyclecast.cluster.room import ROOM, room_of

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, used, young = (tmp_path / f"{ROOM}{name}" for name in ("left", "used", "young"))
    for room in (left, used, young):
        room.mkdir()
        (room / "held-by-nobody").touch()
    with FileLock(used / "held-by-one"):
        for room in (left, used):
            os.utime(room, (0, 0))
        new = room_of(f"{ROOM}new")
        assert sorted(tmp_path.iterdir()) == sorted([new, used, young])


def test_no_cluster_there_is_one_clear_line(clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(clip, tmp_path / "out.mp4", tiny_model, "--cluster", "127.0.0.1:1"), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no Ray cluster at 127.0.0.1:1" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
