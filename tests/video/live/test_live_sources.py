"""Live sources deliver their frames in time, survive damaged ones, and report failures in one line."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from benchmarks.reconnect import RtspServer, can_serve
from cyclecast.errors import InputError
from cyclecast.video.clock import read_clock, seconds_since
from cyclecast.video.color import frame_from_bgr
from cyclecast.video.files.images import write_image
from cyclecast.video.frame import Color, Image
from cyclecast.video.live.capture import client as capture_client
from cyclecast.video.live.capture.client import Capture, CapturedFrame
from cyclecast.video.live.capture.process import check_rate
from cyclecast.video.live.sources import camera
from cyclecast.video.live.sources import network as stream
from cyclecast.video.live.sources.address import redacted_address, redacted_text, source_type
from cyclecast.video.live.sources.camera import csi_pipeline, open_camera, open_csi, open_pipeline
from cyclecast.video.live.sources.network import open_stream
from cyclecast.video.live.sources.playback import in_real_time
from cyclecast.video.live.sources.registry import open_source
from cyclecast.video.live.sources.source import CaptureSettings
from tests.conftest import moving_frames
from tests.video.live.streams import MJPEG, ROOT, USER, Sender

LIMIT = 30.0  # seconds, for everything that a test waits for
MAX_LATENCY_S = 0.4  # ten frames, on a busy machine


def taken(capture: Capture, count: int) -> Iterator[CapturedFrame]:
    """Takes `count` frames."""
    limit = time.monotonic() + LIMIT
    while count:
        assert time.monotonic() < limit, "no frames arrive"
        captured = capture.take(0.1)
        if captured is not None:
            count -= 1
            yield captured


def lateness(captured: CapturedFrame) -> float:
    """Returns the seconds from the creation of the frame to its capture."""
    clock = read_clock(captured.image)
    assert clock is not None, "there is no clock in the frame"
    return seconds_since(clock, captured.at)


@pytest.fixture(scope="module")
def http() -> Iterator[Sender]:
    with Sender("http") as sender:
        yield sender


@pytest.fixture(scope="module")
def rtsp() -> Iterator[Sender]:
    with Sender("rtsp") as sender:
        yield sender


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        assert isinstance(port, int)
        return port


@pytest.mark.parametrize("path", ["/stream.ts", "/once.ts", *MJPEG])
def test_http_has_low_latency(http: Sender, path: str) -> None:
    assert_low_latency(http.address(path))


def test_rtsp_has_low_latency(rtsp: Sender) -> None:
    assert_low_latency(rtsp.address("/live"))


def test_rtsp_from_gstreamer_has_low_latency() -> None:
    """H.264 in RTP, as IP cameras send it."""
    missing = can_serve()
    if missing:
        pytest.skip(missing)
    with RtspServer(320, 240, 25) as server:
        assert_low_latency(server.address)


def test_tcp_has_low_latency() -> None:
    with Sender("tcp") as sender:
        assert_low_latency(sender.address())


def test_udp_has_low_latency() -> None:
    with Sender("udp", port=free_port()) as sender:
        assert_low_latency(sender.address())


def test_a_named_pipe_has_low_latency(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Sender("pipe", port=str(tmp_path / "pipe")) as sender:
        assert source_type(sender.address()) == source_type(f"file://{sender.address()}") == "stream"
        assert_low_latency(sender.address())


def assert_low_latency(address: str) -> None:
    messages: list[str] = []
    with Capture(address, on_message=messages.append) as capture:
        frames = list(taken(capture, 15))
    assert frames[0].image.shape == (240, 320, 3)
    assert float(np.median([lateness(one) for one in frames])) < MAX_LATENCY_S
    numbers = [one.number for one in frames]
    assert numbers == sorted(set(numbers)) and capture.reconnects == 0
    assert len(messages) == 1 and messages[0].startswith(f"{redacted_address(address)}: 320x240 ")


def test_frames_that_a_server_has_buffered_are_skipped_until_the_newest() -> None:
    with Sender("tcp", "--burst", "4") as sender, Capture(sender.address()) as capture:
        late = [lateness(next(taken(capture, 1)))]
        assert late[0] > 2.0, "nothing was buffered"
        limit = time.monotonic() + LIMIT
        while late[-1] > MAX_LATENCY_S:
            assert time.monotonic() < limit, "the delay remains"
            late += [lateness(one) for one in taken(capture, 1)]
        assert max(lateness(one) for one in taken(capture, 10)) < MAX_LATENCY_S
        assert capture.captured > 100


def test_b_frames_arrive_in_display_order() -> None:
    with Sender("tcp", "--reordered") as sender, Capture(sender.address()) as capture:
        created = [one.at - lateness(one) for one in taken(capture, 20)]
    assert created == sorted(created)


def test_the_frame_size_may_change() -> None:
    with Sender("tcp", "--change", "8") as sender, Capture(sender.address()) as capture:
        frames = list(taken(capture, 20))
    sizes = [one.image.shape[1::-1] for one in frames]
    assert (sizes[0], sizes[-1]) == ((320, 240), (160, 120)) and capture.reconnects == 0
    assert all(lateness(one) < MAX_LATENCY_S + 1 for one in frames)


def test_lost_packets_do_not_end_a_stream() -> None:
    with Sender("tcp", "--damage") as sender, Capture(sender.address()) as capture:
        for _ in taken(capture, 25):  # every tenth frame is damaged
            pass
        assert capture.reconnects == 0 and capture.outage is None


def test_a_receiver_that_joins_between_key_frames_waits_for_the_next() -> None:
    with Sender("udp", "--gop", "25", port=free_port()) as sender:
        time.sleep(0.5)  # the first key frame is over
        with Capture(sender.address()) as capture:
            frames = list(taken(capture, 5))
    assert all(abs(lateness(one)) < 3 for one in frames)


def test_hls_is_played_at_an_even_rate(http: Sender) -> None:
    with Capture(http.address("/hls/live.m3u8")) as capture:
        late = [lateness(one) for one in taken(capture, 40)]
    assert max(late[10:]) - min(late[10:]) < MAX_LATENCY_S and max(late) < 6


def test_a_shell_s_pipe_ends_with_its_input(tmp_path: Path) -> None:
    """`ffmpeg … | cyclecast live -`"""
    path = tmp_path / "stream.ts"
    with av.open(str(path), "w", format="mpegts") as out:
        track = out.add_stream("libx264", rate=25, options={"tune": "zerolatency"})
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for image in moving_frames(10):
            out.mux(track.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        out.mux(track.encode(None))
    code = (
        "from cyclecast.video.live.capture.client import Capture\n"
        "with Capture('-') as capture:\n"
        "    try:\n"
        "        while True: capture.take(1)\n"
        "    except EOFError: print(capture.captured, capture.reconnects)"
    )
    with open(path, "rb") as video:
        cat = subprocess.Popen(["cat"], stdin=video, stdout=subprocess.PIPE)
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=cat.stdout, capture_output=True, text=True, timeout=LIMIT, cwd=ROOT, check=True
        )
        assert cat.stdout is not None
        cat.stdout.close()
        cat.wait()
    assert done.stdout.split() == ["10", "0"]


def test_colors_follow_the_matrix_that_the_stream_signals(tmp_path: Path) -> None:
    """A red that is 20 levels off if BT.709 is taken for BT.601."""
    patch = np.full((48, 64, 3), (40, 60, 200), np.uint8)
    path = tmp_path / "red.ts"
    with av.open(str(path), "w", format="mpegts") as out:
        track = out.add_stream("libx264", rate=25, options={"tune": "zerolatency", "crf": "1"})
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        color = Color(1, 1, 1, 1)
        context = track.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = 1, 1, 1, 1
        for index in range(5):
            frame = frame_from_bgr(patch, color, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(path.read_bytes()))
    writer.start()
    image = next(open_stream(str(tmp_path / "pipe"), CaptureSettings()).pending_frames).decode()
    writer.join(LIMIT)
    assert np.abs(image.astype(int) - patch).max() <= 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nothing", "the server has no stream at this path (404); check the part behind the host"),
        ("/secret", "the server requires a user and a password; type http://USER:PASSWORD@HOST/..."),
        ("/page", "no video can be read from it (Input/output error)"),
    ],
)
def test_a_server_without_video_is_an_error_in_one_line(http: Sender, path: str, message: str) -> None:
    failed(http.address(path), message)


def test_an_rtsp_server_without_video_is_an_error_in_one_line(rtsp: Sender) -> None:
    failed(rtsp.address("/gone"), "the server has no stream at this path (404); check the part behind the host")
    failed(rtsp.address("/secret"), "the server requires a user and a password; type rtsp://USER:PASSWORD@HOST/...")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("rtsp://127.0.0.1:1/live", "connection refused; check the host and the port, and that the server runs"),
        ("http://127.0.0.1:1/live", "connection refused; check the host and the port, and that the server runs"),
        ("rtsp://camera.invalid/live", "host camera.invalid not found; check its name and the network"),
        ("cam://127.0.0.1/", "this build of FFmpeg has no protocol cam://; type rtsp://, "),
    ],
)
def test_a_stream_that_does_not_exist_is_an_error_within_seconds(address: str, message: str) -> None:
    begin = time.monotonic()
    failed(address, message)
    assert time.monotonic() - begin < 8


def failed(address: str, message: str) -> None:
    with Capture(address) as capture, pytest.raises(InputError) as error:
        while True:
            capture.take(LIMIT)
    assert str(error.value).startswith(f"{redacted_address(address)}: {message}")
    assert "\n" not in str(error.value)


def test_a_silent_server_is_an_error_after_the_timeout(http: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "OPEN_TIMEOUT_S", 0.5)
    with pytest.raises(InputError, match=r"^http://127\.0\.0\.1:\d+: no answer within 0\.5 s"):
        open_stream(http.address("/silent"), CaptureSettings())


def test_passwords_are_never_printed(rtsp: Sender, http: Sender) -> None:
    user = USER.replace("@", "%40")
    for sender in (rtsp, http):
        messages: list[str] = []
        with Capture(sender.address("/secret", f"{user}@"), on_message=messages.append) as capture:
            next(taken(capture, 1))
            messages.append(capture.name)
        with Capture(sender.address("/secret", "anna:wrong@"), on_message=messages.append) as capture:
            with pytest.raises(InputError, match="the server rejects this user and password") as error:
                capture.take(LIMIT)
            messages.append(str(error.value))
        assert len(messages) == 3 and all("127.0.0.1" in line for line in messages)
        assert not any(word in line for line in messages for word in ("anna", "pass%40", "wrong"))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://anna:secret@10.0.0.9:554/live?a=b", "rtsp://10.0.0.9:554"),
        ("rtsp://anna:se@cr/et@10.0.0.9/live", "rtsp://10.0.0.9"),
        ("rtsp://anna:se/cret@10.0.0.9/live", "rtsp://10.0.0.9"),
        ("rtsp://anna:se?cret@10.0.0.9/live", "rtsp://10.0.0.9"),
        ("RTSP://anna:se#cret@camera.local/live", "rtsp://camera.local"),
        ("rtsp://anna:secret", "rtsp://***"),
        ("http://10.0.0.9/video.cgi?user=anna&pwd=secret&size=2", "http://10.0.0.9"),
        ("http://10.0.0.9?a=anna:secret", "http://10.0.0.9"),
        ("https://cam.example/t/8f2c6d51e0/live.m3u8?sig=af31#x", "https://cam.example"),
        ("rtsp://10.0.0.9/user=anna_password=secret_channel=1.sdp", "rtsp://10.0.0.9"),
        ("srt://10.0.0.9:9000?passphrase=secret&mode=caller", "srt://10.0.0.9:9000"),
        ("udp://@239.0.0.1:5000", "udp://239.0.0.1:5000"),
        ("http://10.0.0.9:80/frame@2x.jpg", "http://10.0.0.9:80"),
        ("http://[::1]:80/frame@2x.jpg", "http://[::1]:80"),
        ("pattern://1280x720@30", "pattern://1280x720@30"),
        ("clip@2x.mp4", "clip@2x.mp4"),
        ("0", "camera 0"),
    ],
)
def test_addresses_are_printed_without_secrets(address: str, shown: str) -> None:
    assert redacted_address(address) == shown


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://anna:secret@10.0.0.9:554/stream-71/live?key=8f2c",
        "http://10.0.0.9/stream-71/secret?key=8f2c",
        "rtsp://anna:secret@10.0.0.9",
    ],
)
def test_messages_of_libraries_are_printed_without_secrets(address: str) -> None:
    rest = address.partition("://")[2]
    without_user = rest.rpartition("@")[2]
    path = f"/{without_user.partition('/')[2]}"
    for text in (f"Error opening '{address}'", f"tcp://{rest} failed", f"http://{without_user}: 404", f"GET {path} HTTP/1.1"):
        shown = redacted_text(text, address)
        assert not any(word in shown for word in ("anna", "secret", "stream-71", "8f2c")), shown
    assert redacted_text("no frame within 4 s", address) == "no frame within 4 s"


def test_a_video_on_a_server_is_played_in_real_time_and_looped(clip: Path) -> None:
    with Sender("http", "--video", str(clip)) as sender:
        with Capture(sender.address("/video"), CaptureSettings(loop=False)) as capture:
            frames = []
            with pytest.raises(EOFError):
                while True:
                    frames += list(taken(capture, 1))
        assert (frames[-1].number, capture.captured, capture.reconnects) == (12, 12, 0)
        assert frames[-1].at - frames[0].at == pytest.approx(0.04 * (12 - frames[0].number), abs=0.05)
        with Capture(sender.address("/video")) as capture:
            frames = list(taken(capture, 30))
        assert frames[-1].at - frames[0].at > 0.9 and capture.reconnects == 0


def test_a_video_is_played_in_real_time_each_frame_once(clip: Path) -> None:
    pending_frames = list(open_source(str(clip), CaptureSettings(loop=False)).pending_frames)
    steps = np.diff([pending_frame.at for pending_frame in pending_frames])
    assert len(pending_frames) == 12
    assert steps == pytest.approx([0.047, 0.047, 0.026] * 3 + [0.047, 0.047], abs=1e-3)
    places = [int(pending_frame.decode()[24, :, 0].argmax()) for pending_frame in pending_frames]  # of the bar
    assert places == pytest.approx([64 * (index + 0.5) / 12 for index in range(12)], abs=2)


def test_a_damaged_video_is_played_without_its_damaged_frames(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "torn.ts"
    with av.open(str(path), "w", format="mpegts") as out:
        track = out.add_stream("mpeg2video", rate=25)
        track.width, track.height, track.pix_fmt, track.bit_rate = 64, 48, "yuv420p", 1_000_000
        for image in moving_frames(25):
            out.mux(track.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        out.mux(track.encode(None))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    pending_frames = list(open_source(str(path), CaptureSettings(loop=False)).pending_frames)
    assert 18 <= len(pending_frames) <= 25
    path.write_bytes(bytes(4000))
    with pytest.raises(InputError, match=r"torn\.ts: "):
        open_source(str(path), CaptureSettings())


def test_concatenated_videos_are_played_up_to_the_joint(tmp_path: Path) -> None:
    """The clock jumps back there."""
    parts = []
    for begin in (100, 0):
        path = tmp_path / f"{begin}.ts"
        with av.open(str(path), "w", format="mpegts") as out:
            track = out.add_stream("mpeg2video", rate=25)
            track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
            for index, image in enumerate(moving_frames(8), begin):
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                out.mux(track.encode(frame))
            out.mux(track.encode(None))
        parts.append(path.read_bytes())
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    pending_frames = list(islice(open_source(str(tmp_path / "both.ts"), CaptureSettings()).pending_frames, 18))
    assert len(pending_frames) == 18


@pytest.mark.parametrize("name", ["frame.png", "frame.jpg"])
def test_an_image_is_repeated(name: str, tmp_path: Path) -> None:
    image = moving_frames(1)[0]
    write_image(tmp_path / name, image)
    pending_frames = list(islice(open_source(str(tmp_path / name), CaptureSettings(fps=20)).pending_frames, 5))
    assert [one.at - pending_frames[0].at for one in pending_frames] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert np.abs(pending_frames[-1].decode().astype(int) - image).max() <= 6
    assert len(list(open_source(str(tmp_path / name), CaptureSettings(fps=20, loop=False)).pending_frames)) == 1


def test_a_still_frame_is_repeated_every_second() -> None:
    begin = time.perf_counter()
    items = list(in_real_time(iter([(5.0, "a"), (7.2, "b"), (7.4, None)])))
    assert [item for _, item in items] == ["a", "a", "a", "b"]
    assert [at - begin for at, _ in items] == pytest.approx([0, 1, 2, 2.2], abs=0.15)
    assert time.perf_counter() - begin >= 2.4


def test_playback_restarts_its_clock_after_a_jump() -> None:
    begin = time.perf_counter()
    items = list(in_real_time(iter([(5.0, 1), (5.1, 2), (500.0, 3), (500.1, 4), (3.0, 5), (3.1, 6)]), max_step=10))
    assert [at - begin for at, _ in items] == pytest.approx([0, 0.1, 0.1, 0.2, 0.2, 0.3], abs=0.1)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("webcam", "no such file; type 0 for a camera, rtsp://"),
        ("/", "is a folder; type the name of a video"),
        ("pattern://small", "not a test pattern; type pattern://WIDTHxHEIGHT@FPS"),
        ("pattern://9x9", "9x9 is not possible; type sides from 96 to 8192 pixels"),
        ("pattern://640x360@2000", "2000 fps is not possible; type a rate above 0, up to 1000"),
        ("screen://front", "not a screen; type screen, screen://1"),
        ("csi://left", "not a CSI camera; type csi://0"),
        ("rtsp://[::1/live", "not a valid address; type rtsp://HOST/PATH or http://HOST/PATH"),
    ],
)
def test_a_source_that_cannot_be_opened_is_one_line_that_says_what_to_type(address: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        open_source(address, CaptureSettings())
    assert str(caught.value).startswith(f"{redacted_address(address)}: {message}") and "\n" not in str(caught.value)


def test_a_low_frame_rate_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_client, "FRAME_TIMEOUT_S", 1.7)
    with Capture("pattern://160x120@30", CaptureSettings(fps=0.2)) as capture:
        first, second = taken(capture, 2)
    assert second.at - first.at > 2.3 and (second.number, capture.reconnects) == (2, 0)


def test_a_camera_that_is_slower_than_its_driver_states_is_reported() -> None:
    """OpenCV states 25 frames a second for MJPEG over HTTP, as drivers do for webcams in the dark."""
    with Sender("http", "--fps", "10") as sender:
        source = open_camera(sender.address("/mjpeg"), CaptureSettings())
        sent = io.StringIO()
        for pending_frame in check_rate(source, sent):
            assert pending_frame.decode().shape == (240, 320, 3)
            if sent.getvalue() or pending_frame.at > time.perf_counter() + LIMIT:
                break
    assert source.stated_fps == 25 and "stated by the driver" in source.description
    messages: list[str] = []
    with Capture("pattern://160x96@15", on_message=messages.append) as capture:
        taken(capture, 1)
        capture._handle(json.loads(sent.getvalue()), 0)
    message = messages[-1].removeprefix("pattern://160x96@15 ")
    assert message.startswith(("delivers 10", "delivers 9."))
    assert "fps, not 25; in poor light" in message


def test_a_camera_that_stops_is_an_error(clip: Path) -> None:
    pending_frames = open_camera(str(clip), CaptureSettings()).pending_frames
    with pytest.raises(InputError, match="the camera delivers no more frames"):
        for pending_frame in pending_frames:
            assert pending_frame.decode().shape == (48, 64, 3)


class FlakyCapture:
    """A cv2.VideoCapture that loses a frame on the bus, delivers torn ones, then works, then is unplugged."""

    def __init__(self) -> None:
        self.grabs = iter([True, False, True, True, True])
        self.frames: list[object] = [None, cv2.error("bad JPEG"), np.full((4, 6, 3), 7, np.uint8)]

    def get(self, key: int) -> float:
        return 0.0

    def grab(self) -> bool:
        return next(self.grabs, False)

    def retrieve(self) -> tuple[bool, object]:
        frame = self.frames.pop(0) if self.frames else np.full((4, 6, 3), 9, np.uint8)
        if isinstance(frame, Exception):
            raise frame
        return frame is not None, frame


def test_torn_frames_of_a_camera_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "open_capture", lambda source: FlakyCapture())
    decoded: list[int | str] = []
    with pytest.raises(InputError, match="^camera 0: the camera delivers no more frames; check its cable$"):
        for pending_frame in open_camera("0", CaptureSettings()).pending_frames:
            try:
                decoded.append(int(pending_frame.decode()[0, 0, 0]))
            except InputError as error:
                decoded.append(str(error))
    assert decoded == ["camera 0: a frame cannot be decoded", "camera 0: a frame cannot be decoded (bad JPEG)", 7, 9]


@pytest.mark.parametrize("error", [ValueError("bad plane"), MemoryError("too large"), InputError("unknown matrix")])
def test_a_frame_of_a_stream_that_cannot_be_converted_is_an_input_error(error: Exception) -> None:
    def convert(frame: av.VideoFrame) -> Image:
        raise error

    with pytest.raises(InputError, match=f"^rtsp://10.0.0.7/live: .*{error}"):
        stream._convert_to_bgr(convert, "rtsp://10.0.0.7/live", av.VideoFrame(64, 48))  # type: ignore[arg-type]


def test_a_missing_camera_is_an_error_in_one_line() -> None:
    for address, name in (("77", "camera 77"), ("/dev/video77", "camera /dev/video77")):
        failed_as(address, f"{name}: cannot be opened")


def failed_as(address: str, message: str) -> None:
    with Capture(address) as capture, pytest.raises(InputError) as error:
        capture.take(LIMIT)
    assert str(error.value).startswith(message)


def test_a_csi_camera_requires_gstreamer() -> None:
    if "GStreamer:                   YES" in cv2.getBuildInformation():
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(InputError, match="^csi://0: this OpenCV was built without GStreamer"):
        open_csi("csi://0", CaptureSettings())
    with pytest.raises(InputError, match=r"^csi://left: not a CSI camera; type csi://0, csi://1 \.\.\."):
        open_csi("csi://left", CaptureSettings())
    pipeline = "gst://rtspsrc location=rtsp://10.0.0.7 user-pw=SECRET ! decodebin"
    assert source_type(pipeline) == "gst" and "SECRET" not in redacted_address(pipeline)
    with pytest.raises(InputError, match="^the GStreamer pipeline: this OpenCV was built without GStreamer"):
        open_pipeline(pipeline, CaptureSettings())
    with pytest.raises(InputError, match="^gst://: type a pipeline"):
        open_pipeline("gst://", CaptureSettings())


def test_the_pipeline_of_a_csi_camera_keeps_only_the_newest_frame() -> None:
    assert csi_pipeline(1, CaptureSettings(1920, 1080, 29.97)) == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM), width=1920, height=1080, format=NV12, framerate=2997/100 ! "
        "nvvidconv ! video/x-raw, format=BGRx ! videoconvert ! video/x-raw, format=BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
    )


def test_gstreamer_accepts_the_pipeline() -> None:
    """With a test pattern in place of NVIDIA's source."""
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("gst-launch-1.0 (Debian: gstreamer1.0-tools) is not here")
    pipeline = csi_pipeline(0, CaptureSettings(320, 240, 30))
    pipeline = pipeline.replace("nvarguscamerasrc sensor-id=0", "videotestsrc num-buffers=3").replace("(memory:NVMM)", "")
    pipeline = pipeline.replace("nvvidconv", "videoconvert") + " wait-on-eos=false"
    done = subprocess.run(["gst-launch-1.0", "-q", *pipeline.split()], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
