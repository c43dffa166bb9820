"""Videos on a Ray cluster: on two workers of this machine, then on two hosts that share nothing. What dies is replaced.

The hosts are Linux namespaces, each with its own network, processes and mounts; the second one sees no file of these tests.
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
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

from cyclecast.video.convert.job import folder_of
from cyclecast.video.convert.parts import PART_FRAMES
from tests.commands import run_command

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs ray"),  # importing it takes half a second in each worker
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc"),
]

OPTIONS = ("--work-height", "96", "--preset", "ultrafast", "--strength", "0.5", "--threads", "1")


def arguments(clip: Path, out: Path, model: Path, *more: str) -> list[str]:
    """Returns the arguments of a conversion."""
    return ["convert", str(clip), str(out), "-m", str(model), "--json", *OPTIONS, *more]


def command(clip: Path, out: Path, model: Path, *more: str) -> list[str]:
    """Returns the command line of a conversion in a separate process."""
    return [sys.executable, "-m", "cyclecast", *arguments(clip, out, model, *more)]


@pytest.fixture(scope="module")
def alone(long_clip: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The long clip, converted on this machine alone."""
    out = tmp_path_factory.mktemp("alone") / "alone.mp4"
    done = run_command(*arguments(long_clip, out, tiny_model))
    assert done.returncode == 0, done.stderr
    return out


def stop_worker(process: int) -> int | None:
    """Stops a descendant of this process while it is making a part, and returns it; None if there is none at the moment."""
    for worker in workers_of(process):
        os.kill(worker, signal.SIGSTOP)
        if worker in workers_of(process):
            return worker
        os.kill(worker, signal.SIGCONT)  # its part was finished a moment ago
    return None


def workers_of(process: int) -> Iterator[int]:
    """Yields the descendants of this process that are making a part."""
    parents, workers = {}, []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            if Path(f"/proc/{entry}/cmdline").read_text().startswith("ray::make_part"):
                workers.append(int(entry))
        except OSError:  # it has ended
            continue
    for worker in workers:
        ancestor = worker
        while ancestor in parents and ancestor != process:
            ancestor = parents[ancestor]
        if ancestor == process:
            yield worker


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_the_output_is_the_same(
    alone: Path, long_clip: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    process = subprocess.Popen(
        command(long_clip, out, tiny_model, "--cluster", "auto"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    killed = None
    while killed is None and process.poll() is None:
        if list(folder_of(out).glob("0*.mp4")):
            killed = stop_worker(process.pid)
        time.sleep(0.01)
    assert killed is not None, process.communicate()
    os.kill(killed, signal.SIGKILL)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    report = json.loads(printed)
    assert report["frames"] == 3 * PART_FRAMES + 10 and report["damage"] is None
    assert "Ray, 1 machine" in errors
    assert out.read_bytes() == alone.read_bytes()


NAMESPACE = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]  # before a command


class Host:
    """A namespace as a machine: a node of Ray at 10.77.0.`number`; host 1 is the head. The folder `hidden` is empty there."""

    def __init__(self, number: int, hidden: Path | None = None) -> None:
        ray_start = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus", "1"]
        where = ["--head", "--port", "6379", "--include-dashboard=false"] if number == 1 else ["--address", "10.77.0.1:6379"]
        script = f"""set -e
            mkdir -p /tmp/ray
            for folder in {shlex.join(["/dev/shm", "/tmp/ray", *([str(hidden)] if hidden else [])])}; do
                mount -t tmpfs tmpfs "$folder"
            done
            ip link set lo up
            ip address add 10.77.0.{number} dev lo  # the wire goes when its other end does
            until ip link set wire up 2> /dev/null; do sleep 0.05; done
            ip route add 10.77.0.0/24 dev wire src 10.77.0.{number}
            until [ {number} = 1 ] || (exec 3<> /dev/tcp/10.77.0.1/6379) 2> /dev/null; do sleep 0.05; done
            exec {shlex.join([*ray_start, *where])} --node-ip-address 10.77.0.{number} --object-store-memory 200000000"""
        self._process = subprocess.Popen(
            [*NAMESPACE, "bash", "-c", script], env=self.env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        while not (found := children.read_text().split()):
            assert self._process.poll() is None
            time.sleep(0.01)
        self.pid = int(found[0])

    @staticmethod
    def env() -> dict[str, str]:
        """Returns an environment: Ray notices in seconds that a host is gone, and asks for neither a token nor the internet."""
        health_check = {"RAY_health_check_period_ms": "1000", "RAY_health_check_initial_delay_ms": "1000"}
        return {**os.environ, **health_check, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "TMPDIR": "/tmp/ray"}

    def start(self, *command: str) -> subprocess.Popen[str]:
        inside = ["nsenter", "--target", str(self.pid), "--net", "--mount", "--pid", "--"]
        return subprocess.Popen([*inside, *command], env=self.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def sent(self, name: str = "cyclecast-*") -> list[Path]:
        """Lists the files that a run sent to this host."""
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
    """Two hosts, joined by a wire. The second one sees no file of these tests."""
    if not all(map(shutil.which, ("bash", "ip", "nsenter", "unshare"))) or os.geteuid() != 0:
        pytest.skip("namespaces need root and the programs bash, ip, nsenter and unshare")
    tried = subprocess.run([*NAMESPACE, "ip", "link", "add", "wire", "type", "veth"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no namespaces here: {tried.stderr.strip()}")
    one, two = Host(1), Host(2, hidden=tmp_path_factory.getbasetemp())
    try:
        wire = f"ip link add wire netns {one.pid} type veth peer name wire netns {two.pid}"
        subprocess.run(wire.split(), check=True)
        waiting = one.start(sys.executable, "-c", AWAIT_TWO)
        _, errors = waiting.communicate(timeout=120)
        assert waiting.returncode == 0, errors
        yield one, two
    finally:
        one.kill()
        two.kill()


@pytest.mark.slow
def test_hosts_without_the_source_receive_it(
    hosts: tuple[Host, Host], alone: Path, long_clip: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """First the source changes. Then, in another run, a worker of the second host dies, and later that host."""
    one, two = hosts
    clip = tmp_path / "clip.mp4"
    shutil.copy(long_clip, clip)

    def start(out: Path) -> subprocess.Popen[str]:
        return one.start(*command(clip, out, tiny_model, "--cluster", "10.77.0.1:6379"))

    def stop_both(process: subprocess.Popen[str], first: int | None = None) -> tuple[int | None, int]:
        """Stops a worker of each host while it is making a part; the first host's waits, however late the second's starts."""
        while process.poll() is None:
            first = first or stop_worker(one.pid)
            if two.sent("cyclecast-*/*/*/part.mp4") and (second := stop_worker(two.pid)):
                return first, second
            time.sleep(0.01)
        raise AssertionError(process.communicate())

    def go_on(*workers: int | None) -> None:
        for worker in filter(None, workers):
            os.kill(worker, signal.SIGCONT)

    process = start(tmp_path / "changed.mp4")
    stopped = stop_both(process)
    assert [path.read_bytes() == clip.read_bytes() for path in two.sent("cyclecast-*/*/source.mp4")] == [True]
    assert not one.sent("cyclecast-*/*/source.mp4")
    os.utime(clip)
    go_on(*stopped)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in errors
    assert f"error: {clip}: was changed while it was converted" in errors.splitlines()[-1]
    assert not one.sent() and not two.sent()

    process = start(tmp_path / "out.mp4")
    first, second = stop_both(process)
    os.kill(second, signal.SIGKILL)
    first, second = stop_both(process, first)
    two.kill()
    go_on(first)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and "Ray, 2 machines" in errors, errors
    assert (tmp_path / "out.mp4").read_bytes() == alone.read_bytes()
    assert not one.sent()


def test_folders_of_killed_runs_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cyclecast.cluster.scratch import SCRATCH_PREFIX, scratch_folder

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    abandoned, used, young = (tmp_path / f"{SCRATCH_PREFIX}{name}" for name in ("abandoned", "used", "young"))
    for folder in (abandoned, used, young):
        folder.mkdir()
        (folder / "held-by-nobody").touch()
    with FileLock(used / "held-by-one"):
        for folder in (abandoned, used):
            os.utime(folder, (0, 0))
        new = scratch_folder(f"{SCRATCH_PREFIX}new")
        assert sorted(tmp_path.iterdir()) == sorted([new, used, young])


def test_an_address_without_a_cluster_is_an_error_in_one_line(clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = run_command(*arguments(clip, tmp_path / "out.mp4", tiny_model, "--cluster", "127.0.0.1:1"))
    assert done.returncode == 1
    assert "no Ray cluster at 127.0.0.1:1" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
