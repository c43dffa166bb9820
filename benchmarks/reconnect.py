"""Measures how `cyclecast live` recovers while its RTSP server is killed twice and stopped once, at random moments.

The server is GStreamer's, H.264 in RTP over TCP, with the clock of `cyclecast.video.clock` in each frame. On Debian or Ubuntu:

    apt install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,bad,ugly}
    python -m benchmarks.reconnect --seconds 90

Prints the messages of the run, then one JSON object: reconnects; for each outage, seconds until it was noticed, and from the
server's restart to the first frame; memory and threads of the program and its capture process at the start and the end; latency.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from cyclecast.video.clock import draw_clock, read_clock, seconds_since
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.client import Capture
from cyclecast.video.scene import Scene

PYTHON = "/usr/bin/python3"  # Debian's own, which sees its GStreamer
STOPPED = 8.0  # seconds
SERVER = """
import sys, threading, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0"); gi.require_version("GstApp", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtspServer
port, width, height, fps, gop = sys.argv[1:]
size, here = int(width) * int(height) * 3, []
def read():
    while frame := sys.stdin.buffer.read(size):
        if here: here[-1].push_buffer(Gst.Buffer.new_wrapped(frame))
    GLib.idle_add(loop.quit)
def begin(factory, media):
    here.append(media.get_element().get_by_name("frames"))
    media.connect("unprepared", lambda media: here.clear())
Gst.init(None)
server, factory, loop = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory(), GLib.MainLoop()
factory.set_shared(True)
factory.set_latency(0)
factory.set_launch(f"( appsrc name=frames is-live=true do-timestamp=true format=time max-buffers=1 leaky-type=downstream "
    f"caps=video/x-raw,format=BGR,width={width},height={height},framerate={fps}/1 ! videoconvert ! "
    f"video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={gop} ! rtph264pay name=pay0 pt=96 )")
factory.connect("media-configure", begin)
server.set_service(port)
server.get_mount_points().add_factory("/live", factory)
if not server.attach(None): sys.exit("the port is taken")
threading.Thread(target=read, daemon=True).start()
print("there", flush=True)
loop.run()
"""


def can_serve() -> str | None:
    """Returns what is missing for the server; None if nothing is."""
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst; Gst.init(None)"
    code += "; assert all(Gst.ElementFactory.find(name) for name in ('appsrc', 'x264enc', 'rtph264pay'))"
    try:
        done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=60)
    except OSError:
        return f"{PYTHON} is missing"
    return "GStreamer's RTSP server (Debian: gir1.2-gst-rtsp-server-1.0, python3-gi) is missing" if done.returncode else None


class RtspServer:
    """rtsp://127.0.0.1:PORT/live at `fps`, a key frame every two seconds; in a process of its own. A context manager."""

    def __init__(self, width: int, height: int, fps: int) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.address = f"rtsp://127.0.0.1:{self.port}/live"
        self._width, self._height, self._fps = width, height, fps
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts it and waits until it listens."""
        numbers = (self.port, self._width, self._height, self._fps, 2 * self._fps)
        command = [PYTHON, "-c", SERVER, *map(str, numbers)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"there\n":
            raise SystemExit("the server has not started")
        threading.Thread(target=self._feed, args=(self._process,), daemon=True).start()

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        """Writes frames for as long as the server reads them."""
        assert process.stdin is not None
        with suppress(OSError, ValueError):
            for image in clock_frames(self._width, self._height, self._fps):
                process.stdin.write(image.tobytes())
                process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the server."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kills it, as kill -9 does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def clock_frames(width: int, height: int, fps: int) -> Iterator[Image]:
    """Pans over a landscape; each frame has its time in the clock."""
    wide = Scene(2 * width, height).draw(0.0)
    due, index = time.perf_counter(), 0
    while True:
        time.sleep(max(0.0, due - time.perf_counter()))
        offset = width - abs(index % (2 * width) - width)
        image = np.ascontiguousarray(wide[:, offset : offset + width])
        draw_clock(image, time.perf_counter())
        yield image
        due, index = max(due + 1 / fps, time.perf_counter()), index + 1


def resources(process: int) -> dict[str, float]:
    """Returns resident MB and threads of a process."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return {"rss_mb": round(int(fields["VmRSS"].split()[0]) / 1024, 1), "threads": int(fields["Threads"])}


def capture_of(process: int) -> int | None:
    """Returns the id of its capture process."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process and b"capture.process" in (folder / "cmdline").read_bytes():
                return int(folder.name)
    return None


def both(process: int) -> dict[str, dict[str, float] | None]:
    capture = capture_of(process)
    return {"program": resources(process), "capture": resources(capture) if capture else None}


def transport_latency(address: str, count: int = 100) -> float:
    """Returns the median milliseconds from the creation of a frame to its capture."""
    late: list[float] = []
    with Capture(address) as capture:
        while len(late) < count:
            captured = capture.take(10.0)
            seen = None if captured is None else read_clock(captured.image)
            if captured is not None and seen is not None:
                late.append(seconds_since(seen, captured.at))
    return round(1000 * float(np.median(late[count // 2 :])), 1)


def main() -> None:
    """Runs it once and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--model", default="monet")
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    missing = can_serve()
    if missing:
        sys.exit(missing)
    dice = random.Random(args.seed)
    width, height = map(int, args.size.split("x"))
    with RtspServer(width, height, args.fps) as server:
        latency = transport_latency(server.address)
        figures = run(server, args.model, args.seconds, dice)
    print(json.dumps({"size": args.size, "sent_fps": args.fps, "made_to_captured_ms": latency} | figures, indent=1))


def run(server: RtspServer, model: str, seconds: float, dice: random.Random) -> dict[str, Any]:
    """Returns the program's own report and the measurements from outside."""
    command = [sys.executable, "-m", "cyclecast", "live", server.address, "--model", model, "--sink", "null"]
    command += ["--seconds", str(seconds), "--json"]
    live = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "300"}
    )
    lines: queue.Queue[tuple[float, str]] = queue.Queue()
    threading.Thread(target=_listen, args=(live, lines), daemon=True).start()
    breaks: list[dict[str, Any]] = []
    try:
        wait_for_line(lines, " on ", 120)
        begin = time.perf_counter()
        time.sleep(seconds / 15)
        start = both(live.pid)
        for number, cause in enumerate(("killed", "stopped", "killed")):
            time.sleep(max(0.0, begin + seconds * (0.1 + 0.28 * number) + dice.uniform(0, 0.08 * seconds) - time.perf_counter()))
            breaks.append(interrupt(server, cause, lines, dice.uniform(1, 4)))
        time.sleep(max(0.0, begin + 0.95 * seconds - time.perf_counter()))
        end = both(live.pid)
        assert live.stdout is not None
        report = json.loads(live.stdout.read())
    finally:
        live.kill()
        live.wait()
    kept = ("captured", "shown", "skipped", "held", "reconnects", "fps", "latency_ms", "quarters_ms", "model_ms", "seconds")
    return {"breaks": breaks, "start": start, "end": end} | {key: report[key] for key in kept}


def interrupt(server: RtspServer, cause: str, lines: queue.Queue[tuple[float, str]], down: float) -> dict[str, Any]:
    """Kills the server for `down` seconds, or stops it for STOPPED seconds; returns when `live` noticed and recovered."""
    broke = time.perf_counter()
    if cause == "killed":
        server.kill()
        noticed = wait_for_line(lines, " is gone: ") - broke
        time.sleep(max(0.0, broke + down - time.perf_counter()))
        server.start()
    else:
        server.signal(signal.SIGSTOP)
        noticed = wait_for_line(lines, " is gone: ") - broke
        time.sleep(max(0.0, broke + STOPPED - time.perf_counter()))
        server.signal(signal.SIGCONT)
    there = time.perf_counter()
    back = wait_for_line(lines, " is back after ") - there
    return {
        "kind": cause,
        "down_s": round(there - broke, 2),
        "noticed_after_s": round(noticed, 2),
        "back_after_s": round(back, 2),
    }


def wait_for_line(lines: queue.Queue[tuple[float, str]], words: str, limit: float = 60.0) -> float:
    """Waits for a line with these words; returns its time."""
    while True:
        at, line = lines.get(timeout=limit)
        if words in line:
            return at


def _listen(live: subprocess.Popen[str], lines: queue.Queue[tuple[float, str]]) -> None:
    assert live.stderr is not None
    for line in live.stderr:
        print(line, end="", file=sys.stderr)
        lines.put((time.perf_counter(), line))


if __name__ == "__main__":
    main()
