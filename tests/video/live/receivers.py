"""Servers that network outputs send to, each in a process of its own, which a test may kill, stop and start again.

    python -m tests.video.live.receivers ADDRESS FORMAT OPTION=VALUE ...

It listens once, and prints a line of JSON for each frame, {"clock": seconds or null, "pts": seconds, "key": is a keyframe,
"flash": brightness}, and for each stretch of sound, {"pts": seconds, "peak": loudness}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from cyclecast.video.clock import read_clock

ROOT = Path(__file__).parents[3]
QUICK = {"analyzeduration": "300000", "fpsprobesize": "0"}  # or FFmpeg looks for other streams for five seconds


class Receiver:
    """A server on loopback. A context manager. options: of FFmpeg."""

    def __init__(self, address: str, form: str = "", **options: str) -> None:
        self.address, self._form, self._options = address, form, options
        self.frames: list[dict[str, Any]] = []
        """What arrived since the last start."""
        self.sound: list[dict[str, Any]] = []
        self.start()

    def start(self) -> None:
        """Starts it and waits until it is about to listen."""
        self.frames, self.sound = [], []
        options = [f"{name}={value}" for name, value in self._options.items()]
        command = [sys.executable, "-m", "tests.video.live.receivers", self.address, self._form, *options]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._is_ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._is_ready.wait(30)

    def _read(self) -> None:
        assert self._process.stdout is not None
        frames, sound = self.frames, self.sound
        for line in self._process.stdout:
            message = json.loads(line)
            if "flash" in message:
                frames.append(message)
            elif "peak" in message:
                sound.append(message)
            else:
                self._is_ready.set()

    def wait_for_frames(self, count: int) -> None:
        from tests.video.live.sessions import wait_for  # imports more than a receiver needs

        wait_for(lambda: len(self.frames) >= count, f"{count} frames at {self.address}")

    def kill(self) -> None:
        """Kills it, as kill -9 does; the connection breaks."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def read_packets(address: str, form: str, options: dict[str, str]) -> Any:
    """Yields a message for each decoded frame and stretch of sound."""
    with av.open(address, format=form or None, options=QUICK | options) as container:
        for packet in container.demux():
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    pts = float(frame.time or 0)
                    image = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
                    flash = float(image[: image.shape[0] // 4].mean())
                    yield {"clock": read_clock(image), "pts": pts, "key": bool(frame.key_frame), "flash": flash}
                elif isinstance(frame, av.AudioFrame):
                    pts = float(frame.time or 0)
                    samples = np.abs(frame.to_ndarray().astype(np.float64)).max(axis=0)
                    loud = np.flatnonzero(samples > 0.25 * (1 if frame.format.name.startswith("flt") else 32768))
                    first = pts + loud[0] / frame.sample_rate if len(loud) else None
                    yield {"pts": pts, "peak": float(samples.max()), "loud": first}


def main() -> None:
    address, form, *pairs = sys.argv[1:]
    print(json.dumps({"ready": True}), flush=True)
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            for message in read_packets(address, form, dict(pair.split("=", 1) for pair in pairs)):
                print(json.dumps(message), flush=True)
            return
        except av.error.FFmpegError as error:
            print(f"{address}: {error}", file=sys.stderr, flush=True)
            if not isinstance(error, av.error.ExitError | av.error.ConnectionRefusedError):
                return


if __name__ == "__main__":
    main()
