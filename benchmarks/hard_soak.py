"""Lets everything go wrong at once in a live run, and reports what stays up: frames, viewers, memory, CPU time.

The source is an MJPEG camera that changes its size every 30 seconds. 16 viewers watch over MJPEG and 3 over WebRTC. Halfway, the
reader of stderr goes away. With `--record`, the run also records to that path, which should be on a small disk that fills up.
Linux only: it reads /proc.

    python -m benchmarks.hard_soak --minutes 20 --record /mnt/small/show.mp4
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2

from benchmarks.soak import family, sample
from benchmarks.viewers import cpu_seconds, free_port, state_of
from cyclecast.video.scene import Scene

SIZES = ((640, 360), (320, 240), (1280, 720), (480, 640))  # in turn
SIZE_S = 30.0  # seconds in each
FPS = 20


@contextmanager
def camera() -> Iterator[str]:
    """Serves the scene as MJPEG while the context lasts. Yields its address."""
    images = {
        (width, height): [cv2.imencode(".jpg", frame.image)[1].tobytes() for frame in Scene(width, height, seconds=1, rate=FPS)]
        for width, height in SIZES
    }
    begin = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with suppress(OSError):  # the run has ended
                for number in range(1 << 30):
                    size = SIZES[int((time.monotonic() - begin) / SIZE_S) % len(SIZES)]
                    data = images[size][number % FPS]
                    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n"
                    self.wfile.write(part % (len(data), data))
                    time.sleep(1 / FPS)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/video.mjpg"
    finally:
        server.shutdown()


def hard_soak(minutes: float, model: str, record: str | None, mjpeg: int, webrtc: int, every: float) -> dict[str, Any]:
    """Runs it and samples the command with its processes every few seconds."""
    port, messages = free_port(), []
    sinks = ["--sink", f"web://127.0.0.1:{port}", *(["--sink", record] if record else [])]
    with camera() as address:
        command = [sys.executable, "-m", "cyclecast", "live", address, "--model", model, *sinks, "--verbose", "--json"]
        run = subprocess.Popen(
            [*command, "--seconds", str(60 * minutes)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert run.stdout is not None and run.stderr is not None
        is_read = threading.Event()

        def read_messages() -> None:
            for line in run.stderr or ():
                messages.append(line.rstrip())
                if is_read.is_set():
                    return

        reader = threading.Thread(target=read_messages, daemon=True)
        reader.start()
        while not (state := state_of(port)) or not state["shown"]:
            time.sleep(0.1)
        watching = [sys.executable, "-m", "benchmarks.viewers", "--watch", str(port), f"--mjpeg={mjpeg}", f"--webrtc={webrtc}"]
        viewers = subprocess.Popen(watching)
        samples: list[dict[str, float]] = []
        begin = time.monotonic()
        try:
            while run.poll() is None:
                if time.monotonic() - begin > 30 * minutes and not is_read.is_set():
                    is_read.set()
                    reader.join(60)
                    run.stderr.close()
                if state := state_of(port):
                    cpu = 0.0
                    for process in family(run.pid):
                        with suppress(OSError):  # it has ended
                            cpu += cpu_seconds(process)
                    at = time.monotonic() - begin
                    samples.append(sample(run.pid) | {"at": at, "cpu": cpu, "shown": state["shown"], "viewers": state["viewers"]})
                time.sleep(every)
        finally:
            viewers.kill()
            viewers.wait()
            run.kill()
        report = json.loads(run.stdout.read())
    settled = [one for one in samples if one["at"] >= 60]
    rates = [
        (after["shown"] - before["shown"]) / (after["at"] - before["at"])
        for before, after in zip(settled, settled[1:], strict=False)
    ]
    stretches = [settled[len(settled) * n // 5 : len(settled) * (n + 1) // 5] for n in range(5)]
    elapsed = settled[-1]["at"] - settled[0]["at"]
    return {
        "minutes": minutes,
        "exit_code": run.returncode,
        "fps": {"least": round(min(rates), 1), "mean": round((settled[-1]["shown"] - settled[0]["shown"]) / elapsed, 1)},
        "viewers": {"least": min(one["viewers"] for one in settled), "last": settled[-1]["viewers"]},
        "mib": [round(max(one["mib"] for one in stretch)) for stretch in stretches],
        **{name: {"after_a_minute": settled[0][name], "last": settled[-1][name]} for name in ("threads", "handles")},
        "cores": round((settled[-1]["cpu"] - settled[0]["cpu"]) / elapsed, 2),
        "messages": [line for line in messages if " fps" not in line][-20:],
        "report": report,
    }


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--model", default="monet")
    parser.add_argument("--record", metavar="FILE", help="also record to this file")
    parser.add_argument("--mjpeg", type=int, default=16, help="viewers over MJPEG")
    parser.add_argument("--webrtc", type=int, default=3, help="viewers over WebRTC")
    parser.add_argument("--every", type=float, default=5, help="seconds between two samples")
    args = parser.parse_args()
    print(json.dumps(hard_soak(args.minutes, args.model, args.record, args.mjpeg, args.webrtc, args.every)))


if __name__ == "__main__":
    main()
