"""Video servers on loopback, each in a process of its own, which a test may kill, stop and start again.

    python -m tests.video.live.streams PROTOCOL PORT --fps 25

Each frame contains the clock. PROTOCOL: tcp (MPEG-TS to each client), rtsp (RTP in the same connection), http (/stream.ts,
/mjpeg and what else cameras send, /hls/live.m3u8, /video and errors), udp (sends to the port), pipe (PORT is its path).
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import os
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext

from cyclecast.video.clock import draw_clock
from cyclecast.video.frame import Image

ROOT = Path(__file__).parents[3]
TS = 188  # bytes, a packet of a transport stream
USER = "anna:pass@word"
SDP = ("v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=frames", "t=0 0", "m=video 0 RTP/AVP 33", "a=control:track1", "")
ALLOWED = f"Basic {base64.b64encode(USER.encode()).decode()}"
PART = b"Content-Type: image/jpeg\r\nContent-Length: LENGTH\r\n\r\n"
MJPEG = {  # path -> what stands before and after each image
    "/mjpeg": (b"--next\r\n" + PART, b"\r\n"),
    "/esp32": (PART, b"\r\n--next\r\n"),  # no boundary before the first image
    "/tasmota": (b"\r\n" + PART, b"\r\n--next"),
    "/lf": (b"--next\nContent-Type: image/jpeg\nContent-Length: LENGTH\n\n", b"\n"),
    "/lf-without-length": (b"--next\nContent-Type: image/jpeg\n\n", b"\n"),
    "/bare": (b"", b""),
}


class Sender:
    """A server in a process of its own; `port` stays the same after a restart. A context manager."""

    def __init__(self, protocol: str, *options: str, port: int | str = 0) -> None:
        self.protocol, self.port, self._options = protocol, port, options
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Starts it and waits until it listens; for a pipe, until it is about to open it."""
        command = [sys.executable, "-m", "tests.video.live.streams", self.protocol, str(self.port), *self._options]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        first_line = self._process.stdout.readline().strip()
        assert first_line, "the sender has ended"
        self.port = int(first_line) if first_line.isdigit() else first_line

    def address(self, path: str = "", user: str = "") -> str:
        """Returns the address for a receiver."""
        scheme = {"udp": "udp://", "pipe": ""}.get(self.protocol, f"{self.protocol}://")
        return str(self.port) if not scheme else f"{scheme}{user}127.0.0.1:{self.port}{path}"

    def kill(self) -> None:
        """Kills it, as kill -9 does; the connections break."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def stop(self) -> None:
        """Sends SIGSTOP: the connections stay, but no data arrives."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Sends SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def frames(width: int, height: int, fps: float, burst: float = 0.0) -> Iterator[Image]:
    """Yields frames at this rate, without end, each with its time in the clock; first `burst` seconds of older frames at once."""
    x = np.linspace(0, 255, 2 * width).astype(np.uint8)
    begin = time.perf_counter() - burst
    for index in itertools.count():
        due = begin + index / fps
        time.sleep(max(0.0, due - time.perf_counter()))
        row = np.roll(x, 4 * index)[:width]
        image = np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3)))
        draw_clock(image, due)
        yield image


def encoder(width: int, height: int, args: argparse.Namespace) -> VideoCodecContext:
    """Opens an encoder for H.264 without B-frames, unless `--reordered` requests them."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.framerate, context.time_base = Fraction(args.fps), 1 / Fraction(args.fps)
    tune = {"bf": "2"} if args.reordered else {"tune": "zerolatency"}
    context.options = {"preset": "ultrafast", "g": str(args.gop), "b-pyramid": "none"} | tune
    return context


def transport_stream(write: Callable[[bytes], object], args: argparse.Namespace) -> None:
    """Writes MPEG-TS, once per frame, until the receiver disconnects; the size changes after `--change` frames."""
    out = io.BytesIO()
    with av.open(out, "w", format="mpegts", options={"flush_packets": "1", "pes_payload_size": "0"}) as container:
        stream: Any = container.add_stream("libx264", rate=args.fps)
        stream.width, stream.height, stream.pix_fmt = args.width, args.height, "yuv420p"
        context = encoder(args.width, args.height, args)
        images = frames(args.width, args.height, args.fps, args.burst)
        for index, image in enumerate(images):
            if index == args.change:
                context = encoder(args.width // 2, args.height // 2, args)
            if index >= args.change:
                image = np.asarray(cv2.resize(image, (args.width // 2, args.height // 2)), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = index, 1 / Fraction(args.fps)
            for packet in context.encode(frame):
                packet.stream = stream
                container.mux(packet)
            data = bytearray(out.getvalue())
            out.seek(0)
            out.truncate()
            if args.damage and index % 10 == 5:  # two packets are lost
                del data[TS : 3 * TS]
            try:
                write(bytes(data))
            except OSError:
                return


class Tcp(socketserver.BaseRequestHandler):
    """Sends MPEG-TS to each client."""

    def handle(self) -> None:
        transport_stream(self.request.sendall, options_of(self))


class Rtsp(socketserver.StreamRequestHandler):
    """RTSP 1.0 with MPEG-TS in RTP, interleaved (RFC 2326, 10.12; RFC 2250). /secret requires a user; /gone is a 404."""

    def handle(self) -> None:
        with suppress(OSError):
            while True:
                method, url, headers = self._request()
                if not method:
                    return
                lines: dict[str, str] = {"CSeq": headers.get("cseq", "0"), "Session": "1"}
                status, body = "200 OK", ""
                if "/gone" in url:
                    status = "404 Not Found"
                elif "/secret" in url and headers.get("authorization") != ALLOWED:
                    status, lines["WWW-Authenticate"] = "401 Unauthorized", 'Basic realm="frames"'
                elif method == "OPTIONS":
                    lines["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
                elif method == "DESCRIBE":
                    lines |= {"Content-Type": "application/sdp", "Content-Base": f"{url}/"}
                    body = "\r\n".join(SDP)
                elif method == "SETUP":
                    if "TCP" not in headers.get("transport", ""):
                        status = "461 Unsupported Transport"
                    lines["Transport"] = "RTP/AVP/TCP;unicast;interleaved=0-1"
                lines["Content-Length"] = str(len(body))
                head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
                self.wfile.write(f"RTSP/1.0 {status}\r\n{head}\r\n{body}".encode())
                if method == "PLAY":
                    self._sequence = 0
                    return transport_stream(self._send, options_of(self))

    def _request(self) -> tuple[str, str, dict[str, str]]:
        """Reads method, address, and headers with names in lower case."""
        method, url, _ = (self.rfile.readline().decode().split() + ["", "", ""])[:3]
        headers = {}
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return method, url, headers

    def _send(self, data: bytes) -> None:
        clock = round(time.perf_counter() * 90_000) & 0xFFFFFFFF
        for start in range(0, len(data), 7 * TS):
            payload = data[start : start + 7 * TS]
            packet = struct.pack(">BBHII", 0x80, 33, self._sequence & 0xFFFF, clock, 1) + payload
            self._sequence += 1
            self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)


class Http(BaseHTTPRequestHandler):
    """The streams of IP cameras and media servers, and errors."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        args = options_of(self)
        path = self.path.partition("?")[0]
        with suppress(OSError):
            if path.startswith("/secret") and self.headers.get("Authorization") != ALLOWED:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="frames"')
                self.end_headers()
            elif path in ("/stream.ts", "/secret"):
                self._answer("video/mp2t")
                transport_stream(self.wfile.write, args)
            elif path in MJPEG or path == "/secret-mjpeg":
                before, after = MJPEG.get(path, MJPEG["/mjpeg"])
                self._answer("multipart/x-mixed-replace; boundary=next")
                for image in frames(args.width, args.height, args.fps, args.burst):
                    data = cv2.imencode(".jpg", image)[1].tobytes()
                    self.wfile.write(before.replace(b"LENGTH", b"%d" % len(data)) + data + after)
            elif path == "/snapshot.jpg":
                data = cv2.imencode(".jpg", next(frames(args.width, args.height, args.fps)))[1].tobytes()
                self._answer("image/jpeg", len(data))
                self.wfile.write(data)
            elif path == "/once.ts" and not self.server.__dict__.setdefault("has_sent", []):
                self.server.__dict__["has_sent"].append(True)
                self._answer("application/octet-stream")
                transport_stream(self.wfile.write, args)
            elif path.startswith("/hls/") and (file := Path(args.folder) / path[5:]).is_file():
                data = file.read_bytes()
                self._answer("application/vnd.apple.mpegurl" if file.suffix == ".m3u8" else "video/mp2t", len(data))
                self.wfile.write(data)
            elif path == "/video":
                data = Path(args.video).read_bytes()
                self._answer("video/mp4", len(data))
                self.wfile.write(data)
            elif path == "/page":
                self._answer("text/html")
                self.wfile.write(b"<html><body>No video here.</body></html>" * 200)
            elif path == "/silent":
                time.sleep(3600)
            else:
                self.send_error(404)

    def _answer(self, content_type: str, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


def write_hls(args: argparse.Namespace) -> None:
    """Writes a live playlist with segments of one second."""
    form = {"hls_time": "1", "hls_list_size": "5", "hls_flags": "delete_segments+temp_file"}
    with av.open(f"{args.folder}/live.m3u8", "w", format="hls", options=form) as container:
        stream: Any = container.add_stream(
            "libx264", rate=args.fps, options={"preset": "ultrafast", "g": str(max(1, round(args.fps)))}
        )
        stream.width, stream.height, stream.pix_fmt = args.width, args.height, "yuv420p"
        for index, image in enumerate(frames(args.width, args.height, args.fps, 3.0)):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = index, 1 / Fraction(args.fps)
            container.mux(stream.encode(frame))


def options_of(handler: Any) -> argparse.Namespace:
    return cast(argparse.Namespace, handler.server.args)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class HttpServer(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("protocol")
    parser.add_argument("port")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--fps", type=Fraction, default=Fraction(25))
    parser.add_argument("--gop", type=int, default=25, help="frames between two key frames")
    parser.add_argument("--burst", type=float, default=0.0, help="seconds of older frames that each receiver gets first")
    parser.add_argument("--change", type=int, default=1 << 30, help="the frame after which the size is halved")
    parser.add_argument("--damage", action="store_true", help="packets are lost")
    parser.add_argument("--video", help="a video file on the server")
    parser.add_argument("--reordered", action="store_true", help="with B-frames")
    args = parser.parse_args()
    if args.protocol == "udp":
        print(args.port, flush=True)
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        target = ("127.0.0.1", int(args.port))

        def send(data: bytes) -> None:
            for start in range(0, len(data), 7 * TS):
                with suppress(ConnectionRefusedError):  # no receiver yet
                    out.sendto(data[start : start + 7 * TS], target)

        transport_stream(send, args)
    elif args.protocol == "pipe":
        print(args.port, flush=True)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        descriptor = os.open(args.port, os.O_WRONLY)
        with open(descriptor, "wb", buffering=0) as pipe:
            transport_stream(pipe.write, args)
    else:
        servers: dict[str, Any] = {"tcp": (Server, Tcp), "rtsp": (Server, Rtsp), "http": (HttpServer, Http)}
        server_class, handler = servers[args.protocol]
        with tempfile.TemporaryDirectory() as args.folder, server_class(("127.0.0.1", int(args.port)), handler) as server:
            server.args = args
            if args.protocol == "http":
                threading.Thread(target=write_hls, args=(args,), daemon=True).start()
            print(server.server_address[1], flush=True)
            server.serve_forever()


if __name__ == "__main__":
    main()
