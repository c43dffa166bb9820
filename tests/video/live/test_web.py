"""The web page's server: its answers, its controls, and that a slow viewer delays nobody else."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import httpx
import numpy as np
import pytest

from cyclecast.errors import InputError
from cyclecast.video.clock import read_clock
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.push_feed import DAMAGED_FRAMES, PushFeed
from cyclecast.video.live.sinks.web.webrtc import bgr_from_video_frame
from cyclecast.video.live.sources.source import PendingFrame
from tests.video.live.served import LIMIT, MAX_VIEWERS, Served, age, eventually, is_swapped, listen, parse_address, serving


@pytest.fixture(scope="module")
def shared_run() -> Iterator[Served]:
    with serving(styles=("same", "swapped", "negative")) as served:
        yield served


@pytest.fixture
def served(shared_run: Served) -> Iterator[Served]:
    """Yields a run that shows its source as it is, whatever the test before left behind."""
    yield shared_run
    state = shared_run.state()
    if (state["model"], state["mirror"]) != ("same", False):
        shared_run.post("/api/model", name="same")
        shared_run.post("/api/mirror", on=False)
        eventually(lambda: read_clock(snapshot_of(shared_run)) is not None, "the source as it is")


def snapshot_of(served: Served) -> Image:
    return decoded(served.client.get("/snapshot.png").content)


def decoded(data: bytes) -> Image:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


@contextmanager
def mjpeg(served: Served, **query: str | float) -> Iterator[Iterator[Image]]:
    """Opens /stream.mjpg, and yields its frames as they arrive."""

    def frames(response: httpx.Response) -> Iterator[Image]:
        buffer = b""
        for chunk in response.iter_raw():
            buffer += chunk
            while match := re.search(rb"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: (\d+)\r\n\r\n", buffer):
                end = match.end() + int(match[1])
                if len(buffer) < end + len("\r\n--frame\r\n"):
                    break
                yield decoded(buffer[match.end() : end])
                buffer = buffer[end + 2 :]

    with served.client.stream("GET", "/stream.mjpg", params=query) as response:
        assert response.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        yield frames(response)


def test_the_page_loads_nothing_from_other_hosts(served: Served) -> None:
    response = served.client.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff" and response.headers["cache-control"] == "no-store"
    other_hosts = set(re.findall(r"https?://[\w.]+", response.text)) - {"http://www.w3.org"}
    assert not other_hosts and "src=" not in response.text.replace("image.src =", "")


def test_state_has_everything_that_the_page_shows(served: Served) -> None:
    eventually(lambda: served.state()["fps"] > 5, "frames")
    state = served.state()
    assert state["source"] == "pattern://320x240@15" and state["models"] == ["same", "swapped", "negative"]
    assert state["size"] == [320, 240] and state["outage"] is None and state["recording"] is None
    assert 0 < state["latency_ms"] < 1000 and state["captured"] >= state["shown"] > 0 and state["skipped"] >= 0
    assert not state["accepts_camera"] and not state["watching"]


def test_a_requested_style_becomes_active(served: Served) -> None:
    assert served.post("/api/model", name="swapped").status_code == 204
    eventually(lambda: served.state()["model"] == "swapped", "another style")
    eventually(lambda: is_swapped(snapshot_of(served)), "a styled frame")
    unknown = served.post("/api/model", name="rembrandt")
    assert unknown.status_code == 409
    assert re.fullmatch(r"no model 'rembrandt' .*: same, swapped, negative", unknown.json()["error"])


def test_mirror_flips_the_video(served: Served) -> None:
    def clocks() -> tuple[bool, bool]:
        image = snapshot_of(served)
        return read_clock(image) is not None, read_clock(np.ascontiguousarray(image[:, ::-1])) is not None

    assert clocks() == (True, False)
    served.post("/api/mirror", on=True)
    eventually(lambda: clocks() == (False, True), "the clock on the right")
    served.post("/api/mirror", on=False)
    eventually(lambda: clocks() == (True, False), "the clock on the left")


def test_the_strength_is_the_same_for_all_viewers() -> None:
    with serving(styles=("negative",), strength=0.5) as served:
        assert served.state()["strength"] == 0.5
        assert served.post("/api/strength", strength=0).status_code == 200
        eventually(lambda: read_clock(snapshot_of(served)), "the source, with its clock")
        with mjpeg(served, viewer="one") as one, mjpeg(served, viewer="two") as two:
            assert served.state("one")["strength"] == served.state("two")["strength"] == 0
            assert read_clock(next(one)) is not None and read_clock(next(two)) is not None
            assert served.post("/api/strength", strength=1).status_code == 200
            eventually(lambda: read_clock(next(one)) is None, "the styled frame for the first viewer")
            eventually(lambda: read_clock(next(two)) is None, "the styled frame for the second viewer")
        assert served.state()["strength"] == 1


def test_a_snapshot_is_the_frame_on_the_page_and_leaves_no_file(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    served.post("/api/model", name="negative")
    eventually(lambda: read_clock(snapshot_of(served)) is None, "a negative frame, whose clock cannot be read")
    response = served.client.get("/snapshot.png", params={"split": 0.5})
    image, whole = decoded(response.content), snapshot_of(served)
    assert response.headers["content-disposition"].startswith('attachment; filename="cyclecast-')
    assert image.shape == whole.shape == (240, 320, 3) and age(image) < 2
    assert np.abs(image[:60, :150].astype(int) - (255 - whole[:60, :150].astype(int))).mean() < 12
    assert np.abs(image[:60, 170:].astype(int) - whole[:60, 170:].astype(int)).mean() < 12
    assert list(tmp_path.iterdir()) == []


def at_the_same_time(count: int, request: Callable[[], httpx.Response]) -> list[int]:
    """Sends a request from several threads at once; their statuses."""
    barrier = threading.Barrier(count)

    def send() -> int:
        barrier.wait(LIMIT)
        return request().status_code

    with ThreadPoolExecutor(count) as pool:
        return [future.result(LIMIT) for future in [pool.submit(send) for _ in range(count)]]


def has_shown(served: Served, count: int) -> bool:
    return bool(served.state()["shown"] > count)


def test_simultaneous_requests_start_and_stop_one_recording(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(1, 4):
        assert at_the_same_time(4, lambda: served.post("/api/record", on=True)) == [200] * 4
        name, shown = served.state()["recording"], served.state()["shown"]
        assert name is not None
        eventually(partial(has_shown, served, shown + 8), "frames to record")
        assert at_the_same_time(4, lambda: served.post("/api/record", on=False)) == [200] * 4
        assert served.state()["recording"] is None
        assert len(list(tmp_path.iterdir())) == number
        with av.open(tmp_path / name) as video:
            assert sum(1 for _ in video.decode(video=0)) > 3


def test_two_viewers_want_the_same_recording(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with mjpeg(served, viewer="one") as first, mjpeg(served, viewer="two") as second:
        next(first), next(second)
        assert served.post("/api/record", on=True).status_code == 200
        name = served.state("one")["recording"]
        assert served.post("/api/record", on=True).status_code == 200  # the other viewer has not seen yet that it runs
        assert served.state("one")["recording"] == served.state("two")["recording"] == name and name is not None
        assert served.post("/api/record", on=False).status_code == 200
        assert served.post("/api/record", on=False).status_code == 200
        assert served.state("one")["recording"] is served.state("two")["recording"] is None
    assert len(list(tmp_path.iterdir())) <= 1


def test_simultaneous_requests_to_mirror_agree(served: Served) -> None:
    for on in (True, False):
        assert at_the_same_time(4, partial(served.post, "/api/mirror", on=on)) == [200] * 4
        assert served.state()["mirror"] is on
    eventually(lambda: read_clock(snapshot_of(served)), "the clock on the left again")


def test_mjpeg_sends_new_frames_in_order(served: Served) -> None:
    with mjpeg(served, viewer="one") as frames:
        clocks = []
        for _ in range(6):
            image = next(frames)
            assert image.shape == (240, 320, 3) and -0.01 < age(image) < 1
            clocks.append(read_clock(image))
        assert served.state("one")["watching"]
    assert clocks == sorted(set(clocks), key=lambda clock: clock or 0)
    eventually(lambda: served.viewers() == 0, "the viewer is removed")


def test_each_viewer_has_a_slider_of_its_own() -> None:
    with serving(styles=("negative",)) as served, mjpeg(served, viewer="a", split=1) as one, mjpeg(served, viewer="b") as other:
        assert read_clock(next(one)) is not None and read_clock(next(other)) is None
        assert served.post("/api/split", viewer="b", split=1.0).status_code == 200
        eventually(lambda: read_clock(next(other)) is not None, "the source on the other page")
        assert served.post("/api/split", viewer="a", split=None).status_code == 200
        eventually(lambda: read_clock(next(one)) is None, "the styled frame on the first page")
        assert read_clock(next(other)) is not None
        nobody = served.post("/api/split", viewer="nobody", split=0.5)
        assert nobody.status_code == 404 and nobody.json()["error"] == "no viewer with this id is watching"


def test_a_viewer_that_does_not_read_delays_nobody() -> None:
    with serving("pattern://640x480@25") as served:
        port = served.client.base_url.port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port)) as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.sendall(b"GET /stream.mjpg?viewer=stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
            eventually(lambda: served.state("stuck")["watching"], "the viewer that does not read")
            with mjpeg(served) as frames:
                ages = [age(next(frames)) for _ in range(50)]  # some megabytes: more than buffers hold
            assert np.median(ages) < 0.5 and served.state("stuck")["watching"]
        eventually(lambda: served.viewers() == 0, "the viewer is removed")


def test_too_many_viewers_are_rejected(served: Served) -> None:
    with httpx.Client(base_url=served.origin, limits=httpx.Limits(max_connections=None), trust_env=False) as client:
        streams = [client.stream("GET", "/stream.mjpg") for _ in range(MAX_VIEWERS)]
        for stream in streams:
            assert stream.__enter__().status_code == 200
        response = client.get("/stream.mjpg")
        assert response.status_code == 503 and "close another page" in response.json()["error"]
        for stream in streams:
            stream.__exit__(None, None, None)
    eventually(lambda: served.viewers() == 0, "all viewers are removed")


def test_prometheus_reads_the_counters_of_the_run(served: Served) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    before = served.state()
    response = served.client.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    values = {sample.name: sample.value for family in families.values() for sample in family.samples if not sample.labels}
    after = served.state()
    for name, key in (("captured", "captured"), ("shown", "shown")):
        assert before[key] <= values[f"cyclecast_frames_{name}_total"] <= after[key]
    assert values["cyclecast_frames_skipped_total"] >= 0 and values["cyclecast_reconnects_total"] == 0
    assert values["cyclecast_source_up"] == 1 and values["cyclecast_fps"] > 1 and values["cyclecast_recording"] == 0
    quantiles = {
        sample.labels["quantile"]: sample.value for sample in families["cyclecast_latency_seconds"].samples if sample.labels
    }
    assert 0 < quantiles["0.5"] <= quantiles["0.99"] <= quantiles["1"] < 10
    models = {sample.labels["model"]: sample.value for sample in families["cyclecast_model"].samples}
    assert models == {"same": 1, "swapped": 0, "negative": 0}


def test_the_server_ends_at_once_while_somebody_watches() -> None:
    with serving() as served, mjpeg(served) as frames:
        next(frames)
        began = time.monotonic()
        served.end()
        assert time.monotonic() - began < 2.5
        assert all(image is not None for image in frames)  # the answer has come to its end
        assert served.page.name not in [thread.name for thread in threading.enumerate()]
        listen(parse_address(served.page.url.replace("http", "web"))).close()
    assert not [line for line in served.messages if "failed" in line]


def test_a_push_feed_returns_the_newest_frame_and_reports_outages() -> None:
    push_feed = PushFeed()
    assert push_feed.take(0) is None and push_feed.outage is None
    push_feed.lose("no browser yet")
    assert push_feed.outage is None
    decoded = []

    def pending(value: int) -> PendingFrame:
        def decode() -> Image:
            decoded.append(value)
            return np.full((2, 2, 3), value, np.uint8)

        return PendingFrame(float(value), decode)

    for value in (1, 2, 3):
        push_feed.put(pending(value))
    captured = push_feed.take(0)
    assert captured is not None and (captured.number, captured.at, captured.image[0, 0, 0]) == (3, 3.0, 3) and decoded == [3]
    assert push_feed.take(0) is None and push_feed.captured == 3
    push_feed.lose("its browser has stopped")
    outage = push_feed.outage
    assert outage is not None and outage[0] == "its browser has stopped" and outage[1] >= 0
    push_feed.put(pending(4))
    assert push_feed.outage is None and push_feed.reconnects == 1
    threading.Timer(0.1, push_feed.close).start()
    push_feed.take(0)
    with pytest.raises(EOFError):
        push_feed.take(LIMIT)


class Sender:
    """Puts frames into the feed of a run, and waits until the run has taken each."""

    def __init__(self, served: Served) -> None:
        assert isinstance(served.session.feed, PushFeed)
        self.feed, self.taken = served.session.feed, threading.Event()

    def send(self, level: int | None) -> None:
        """Sends a gray frame of this level; None: one that cannot be decoded."""

        def decode() -> Image:
            self.taken.set()
            if level is None:
                raise InputError("corrupt VP8 data")
            return np.full((96, 128, 3), level, np.uint8)

        self.taken.clear()
        self.feed.put(PendingFrame(time.perf_counter(), decode))
        assert self.taken.wait(LIMIT), "the run has ended"

    def is_shown(self, served: Served, level: int) -> bool:
        self.send(level)
        newest = served.session.newest
        return newest is not None and newest.styled[0, 0, 0] == level


def test_a_corrupt_frame_of_a_browser_s_camera_ends_nothing() -> None:
    with serving("browser", styles=("same",)) as served:
        sender = Sender(served)
        eventually(lambda: sender.is_shown(served, 10), "the first frame")
        sender.send(None)
        eventually(lambda: sender.is_shown(served, 20), "a frame after the corrupt one")
        assert served.running.is_alive() and sender.feed.outage is None and sender.feed.reconnects == 0


def test_many_corrupt_frames_in_a_row_are_reported_until_a_good_one_arrives() -> None:
    with serving("browser", styles=("same",)) as served:
        sender = Sender(served)
        eventually(lambda: sender.is_shown(served, 10), "the first frame")
        for _ in range(DAMAGED_FRAMES):
            sender.send(None)
        eventually(lambda: served.state()["outage"], "the report")
        assert served.state()["outage"]["reason"] == "its frames cannot be decoded (corrupt VP8 data)"
        eventually(lambda: sender.is_shown(served, 20), "a frame after the corrupt ones")
        assert served.state()["outage"] is None and served.state()["reconnects"] == 1


@pytest.mark.parametrize("error", [ValueError("plane too small"), MemoryError(), cv2.error("bad size")])
def test_a_frame_of_a_browser_s_camera_that_cannot_be_converted_is_an_input_error(error: Exception) -> None:
    class Corrupt:
        format, width, height = SimpleNamespace(name="yuv420p"), 64, 48

        def to_ndarray(self, format: str | None = None) -> Image:
            raise error

    with pytest.raises(InputError, match="^a frame of the browser's camera cannot be converted"):
        bgr_from_video_frame(Corrupt())  # type: ignore[arg-type]
