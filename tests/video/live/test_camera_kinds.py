"""Cameras of all kinds: devices by any name, single images, slow ones, some that are not there yet."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cyclecast.errors import ConfigError, InputError, OutputError
from cyclecast.video import cameras
from cyclecast.video.clock import read_clock, seconds_since
from cyclecast.video.live.capture import client as capture_client
from cyclecast.video.live.capture.client import Capture
from cyclecast.video.live.capture.patience import Patience
from cyclecast.video.live.sinks.registry import Null, open_sink
from cyclecast.video.live.sinks.sink import MissingSink, SessionControls, Sink
from cyclecast.video.live.sources.address import redacted_address, source_type
from cyclecast.video.live.sources.http_images import decode_jpeg, repeated_jpegs, split_jpegs
from cyclecast.video.live.sources.source import CaptureSettings
from cyclecast.video.scene import Scene
from tests.video.live.sessions import Collecting, open_session, run, take_frames, wait_for
from tests.video.live.streams import USER, Sender


def test_every_character_device_is_a_camera(tmp_path: Path) -> None:
    link = tmp_path / "usb-046d_C920_1234-video-index0"
    link.symlink_to("/dev/null")
    for address in ("/dev/null", str(link), "/dev/v4l/by-id/usb-absent-video-index0", "/dev/video77", "0"):
        assert source_type(address) == "camera" and redacted_address(address) == f"camera {address}"
    assert source_type("-") != "camera" and source_type("/dev/stdin") != "camera" and source_type(str(tmp_path)) == "file"


def test_a_link_to_a_device_is_opened_as_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[object, int]] = []

    class Camera:
        def __init__(self, source: object, backend: int) -> None:
            opened.append((source, backend))

        def isOpened(self) -> bool:
            return True

        def set(self, key: int, value: float) -> None: ...

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    link = tmp_path / "by-id"
    link.symlink_to("/dev/null")
    cameras.open_capture(str(link))
    cameras.open_capture("0.ts")
    assert opened[0][0] == "/dev/null" and opened[0][1] != cv2.CAP_ANY
    assert opened[1] == ("0.ts", cv2.CAP_ANY)


def jpegs(count: int) -> list[bytes]:
    """Returns JPEG files: with a thumbnail in their header, progressive, and with restart markers."""
    found = []
    for index in range(count):
        image = np.ascontiguousarray(Scene(96, 64).draw(index / 5))
        flags = [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]][index % 3]
        data = cv2.imencode(".jpg", image, flags)[1].tobytes()
        thumbnail = cv2.imencode(".jpg", image[::4, ::4])[1].tobytes()
        segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
        found.append(data[:2] + segment + data[2:])
    return found


@pytest.mark.parametrize("chunk", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("between", [b"", b"\r\n--next\r\nContent-Type: image/jpeg\r\n\r\n", b"\xff\xd9\xff\xff\xd8\x00"])
def test_images_are_found_in_any_packaging(chunk: int, between: bytes) -> None:
    images = jpegs(6)
    stream = between + b"".join(image + between for image in images)
    pieces = (stream[start : start + chunk] for start in range(0, len(stream), chunk))
    assert list(split_jpegs(pieces)) == images


def test_a_torn_image_costs_itself_alone() -> None:
    images = jpegs(4)
    torn = images[1][: len(images[1]) // 2]
    assert list(split_jpegs(iter([images[0] + torn + images[2] + images[3]]))) == [images[0], images[2], images[3]]


def test_an_endless_image_is_an_error() -> None:
    endless = itertools.chain([jpegs(1)[0][:-2]], itertools.repeat(bytes(1 << 22)))
    with pytest.raises(ValueError, match="longer than 64 MiB"):
        list(split_jpegs(endless))
    with pytest.raises(InputError, match="^camera: an image cannot be decoded"):
        decode_jpeg(b"\xff\xd8\xff\xd9", "camera")


def test_an_address_of_single_images_is_requested_again_and_again() -> None:
    messages: list[str] = []
    with Sender("http") as sender, Capture(sender.address("/snapshot.jpg"), CaptureSettings(fps=10), messages.append) as capture:
        frames = take_frames(capture, 8)
        clocks = [read_clock(frame.image) for frame in frames]
        steps = [seconds_since(one or 0, other or 0) for one, other in itertools.pairwise(clocks)]
        assert min(steps) > 0 and capture.reconnects == 0
        assert capture.captured < 10 * (time.perf_counter() - frames[0].at) + 5
        assert len(messages) == 1 and "320x240" in messages[0]


class Endless:
    """An answer without an end."""

    is_closed = False

    def chunks(self) -> Iterator[bytes]:
        return itertools.repeat(bytes(1 << 22))

    def close(self) -> None:
        self.is_closed = True


def test_an_endless_answer_of_a_single_image_is_an_error() -> None:
    answer: Any = Endless()
    with pytest.raises(InputError, match="^camera: an image is longer than 64 MiB"):
        next(repeated_jpegs(answer, lambda: answer, None, "camera"))
    assert answer.is_closed


def test_mjpeg_with_a_password() -> None:
    user = USER.replace("@", "%40")
    with Sender("http") as sender:
        with Capture(sender.address("/secret-mjpeg", f"{user}@")) as capture:
            assert take_frames(capture, 2)[1].image.shape == (240, 320, 3)
        wrong = sender.address("/secret-mjpeg", "anna:wrong@")
        with Capture(wrong) as capture, pytest.raises(InputError, match="the server rejects this user and password"):
            take_frames(capture, 1)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_client, "FRAME_TIMEOUT_S", 0.3)
    monkeypatch.setattr(capture_client, "RETRY_DELAYS_S", (0.2,))


@pytest.mark.usefixtures("impatient")
def test_a_source_that_is_slower_than_the_timeout_is_not_lost() -> None:
    with Capture("pattern://160x120@1.2") as capture:
        frames = take_frames(capture, 3)
        assert capture.reconnects == 0 and [frame.number for frame in frames] == [1, 2, 3]


@pytest.mark.usefixtures("impatient")
def test_patience_can_be_set() -> None:
    with Capture("pattern://160x120@1", CaptureSettings(patience=0.5)) as capture:
        wait_for(lambda: capture.outage, "an outage")
        assert capture.outage is not None and capture.outage[0] == "no frame within 0.5 s"
    with pytest.raises(ConfigError, match="patience must be above 0 seconds, got 0"):
        CaptureSettings(patience=0.0)


def test_patience_follows_the_rate() -> None:
    patience = Patience(to_open=25, least=4)
    assert patience.seconds == patience.to_open == 25
    patience.observe(100.0)
    assert patience.seconds == 25, "one frame says nothing about the rate"
    patience.observe(110.0)
    assert patience.seconds == 30
    patience.interrupt()
    patience.observe(500.0)
    assert patience.seconds == 30, "an outage is no interval"
    for index in range(1, 7):
        patience.observe(500 + index / 30)
    assert patience.seconds == 4
    assert Patience(25, 4, fixed=60).to_open == Patience(25, 4, fixed=60).seconds == 60


@pytest.mark.usefixtures("impatient")
def test_a_source_that_is_not_there_yet_is_waited_for() -> None:
    messages: list[str] = []
    with Sender("http") as sender:
        sender.kill()
        with Capture(sender.address("/mjpeg"), CaptureSettings(wait=True), messages.append) as capture:
            wait_for(lambda: capture.outage, "an outage")
            assert capture.take(0.1) is None and capture.captured == 0
            sender.start()
            assert take_frames(capture, 1)[0].image.shape == (240, 320, 3)
            wait_for(lambda: capture.outage is None, "the end of the outage")
            assert capture.reconnects == 0
    assert "is not there: connection refused" in messages[0] and "trying again until it is there" in messages[0]
    assert any(" is there after " in line for line in messages)


class Absent(Null):
    """A device that is not connected."""

    def __init__(self, address: str, controls: SessionControls) -> None:
        raise MissingSink(f"{address}: there is no such device")


def test_a_sink_that_is_missing_at_the_start_is_left_out() -> None:
    good, messages = Collecting(), list[str]()
    report = run(sinks={"one": Absent, "good": good.open, "other": Absent}, messages=messages, seconds=0.2)
    assert good.frames and [(sink.name, sink.failure) for sink in report.sinks][:2] == [
        ("one", "one: there is no such device"),
        ("other", "other: there is no such device"),
    ]
    assert "one: there is no such device; going on without it" in messages
    with pytest.raises(OutputError, match="^one: there is no such device$"):
        run(sinks={"one": Absent, "other": Absent})


def test_a_wrong_sink_is_an_error_although_others_work(tmp_path: Path) -> None:
    (tmp_path / "there.mp4").write_bytes(b"mine")
    for address, words in ((str(tmp_path / "there.mp4"), "exists already"), ("video.txt", "expected window")):
        good = Collecting()

        def open_either(address: str, controls: SessionControls, good: Collecting = good) -> Sink:
            return good.open(address, controls) if address == "good" else open_sink(address, controls)

        with pytest.raises(OutputError, match=words):
            open_session(sinks={"good": open_either, address: open_either})
