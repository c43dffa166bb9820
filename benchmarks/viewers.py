"""Measures what viewers of the live page cost: CPU time and memory of `cyclecast live`, without its capture process.

Runs a test pattern through a model that returns its input, lets a number of viewers watch, and compares with the same run without
any. The viewers are a process of their own. Linux only: it reads /proc.

    python -m benchmarks.viewers --source pattern://1280x720@30 --mjpeg 16 --webrtc 3 --seconds 10
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
SETTLE_S = 3.0  # seconds until all viewers watch


def write_identity_model(path: Path) -> None:
    """Writes a frame model that returns its input."""
    import onnx
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, "h", "w", 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))


def free_port() -> int:
    """Returns an unused port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def cpu_seconds(process: int) -> float:
    """Returns the CPU time of a process, without its children."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(process: int) -> float:
    """Returns the resident memory of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def watch_mjpeg(port: int, viewer: int) -> None:
    """Reads /stream.mjpg and throws it away."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /stream.mjpg?viewer=m{viewer} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    while await reader.read(1 << 18):
        pass


async def watch_webrtc(port: int, viewer: int) -> None:
    """Receives the video over WebRTC and throws it away."""
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
    from aiortc.contrib.media import MediaBlackhole

    peer, unused = RTCPeerConnection(RTCConfiguration(iceServers=[])), MediaBlackhole()
    peer.on("track", unused.addTrack)
    peer.addTransceiver("video", "recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    offer = {"sdp": peer.localDescription.sdp, "type": "offer", "viewer": f"w{viewer}"}
    headers = {"Content-Type": "application/json", "Origin": f"http://localhost:{port}"}
    request = urllib.request.Request(f"http://localhost:{port}/offer", json.dumps(offer).encode(), headers)
    answer = json.loads((await asyncio.to_thread(urllib.request.urlopen, request)).read())
    await peer.setRemoteDescription(RTCSessionDescription(**answer))
    await unused.start()
    await asyncio.sleep(24 * 3600)


async def watch(port: int, mjpeg: int, webrtc: int) -> None:
    """Runs all viewers at once."""
    viewers = [watch_mjpeg(port, viewer) for viewer in range(mjpeg)]
    await asyncio.gather(*viewers, *[watch_webrtc(port, viewer) for viewer in range(webrtc)])


def state_of(port: int) -> Any:
    """Returns the answer of /api/state; None before the server is up."""
    try:
        with urllib.request.urlopen(f"http://localhost:{port}/api/state", timeout=5) as response:
            return json.load(response)
    except OSError:
        return None


def measure(source: str, mjpeg: int, webrtc: int, seconds: float, settle: float = SETTLE_S) -> dict[str, Any]:
    """Measures one run with this many viewers. settle: seconds from the last viewer's connection to the measurement."""
    with tempfile.TemporaryDirectory() as folder:
        model, port = Path(folder) / "identity.onnx", free_port()
        write_identity_model(model)
        sink = f"web://127.0.0.1:{port}"
        live = [sys.executable, "-m", "cyclecast", "live", source, "--model", str(model), "--sink", sink]
        run = subprocess.Popen(live, stderr=subprocess.DEVNULL)
        watching = [
            sys.executable,
            "-m",
            "benchmarks.viewers",
            "--watch",
            str(port),
            "--mjpeg",
            str(mjpeg),
            "--webrtc",
            str(webrtc),
        ]
        viewers = None
        try:
            while not (state := state_of(port)) or not state["shown"]:
                time.sleep(0.1)
            viewers = subprocess.Popen(watching)
            while (state_of(port) or {"viewers": 0})["viewers"] < mjpeg + webrtc:
                time.sleep(0.1)
            time.sleep(settle)
            before, shown, begin = cpu_seconds(run.pid), state_of(port)["shown"], time.monotonic()
            time.sleep(seconds)
            elapsed = time.monotonic() - begin
            return {
                "mjpeg": mjpeg,
                "webrtc": webrtc,
                "cores": round((cpu_seconds(run.pid) - before) / elapsed, 3),
                "mib": round(resident_mib(run.pid), 1),
                "fps": round((state_of(port)["shown"] - shown) / elapsed, 1),
            }
        finally:
            for process in (viewers, run):
                if process is not None:
                    process.kill()
                    process.wait()


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="pattern://1280x720@30")
    parser.add_argument("--mjpeg", type=int, default=16, help="viewers over MJPEG")
    parser.add_argument("--webrtc", type=int, default=3, help="viewers over WebRTC")
    parser.add_argument("--seconds", type=float, default=10, help="seconds that each run is measured for")
    parser.add_argument("--watch", type=int, help=argparse.SUPPRESS)  # the port: this process is the viewers
    args = parser.parse_args()
    if args.watch is not None:
        asyncio.run(watch(args.watch, args.mjpeg, args.webrtc))
        return
    counts = dict.fromkeys([(0, 0), (1, 0), (args.mjpeg, 0), (0, 1), (0, args.webrtc)])
    runs = [measure(args.source, mjpeg, webrtc, args.seconds) for mjpeg, webrtc in counts]
    print(json.dumps({"source": args.source, "seconds": args.seconds, "runs": runs}))


if __name__ == "__main__":
    main()
