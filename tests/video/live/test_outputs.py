"""Network outputs: real receivers get every frame with its time, and none of them slows the run or ends it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from cyclecast.errors import ConfigError, OutputExistsError
from cyclecast.video.live.options import LiveOptions
from cyclecast.video.live.session import Session
from cyclecast.video.live.sinks.network.address import has_protocol, parse_output
from cyclecast.video.live.sinks.network.output import NetworkOutput
from cyclecast.video.live.sinks.network.settings import StreamSettings
from cyclecast.video.live.sinks.registry import open_sink
from cyclecast.video.live.sinks.sink import MissingSink, OutputState, Sink
from tests.conftest import Same
from tests.video.live.receivers import Receiver, read_packets
from tests.video.live.sessions import LIMIT, open_as, wait_for
from tests.video.live.test_recording import run_with
from tests.video.live.test_rtsps import pump
from tests.video.live.test_web_access import certificate

PATTERN = "pattern://256x144@20"
KEY = "stream-key-4711"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def session_to(*sinks: str, messages: list[str] | None = None, audio: str = "none") -> Session:
    opener = partial(open_sink, streams=StreamSettings(keyframe_interval=0.5))
    on_message = None if messages is None else messages.append
    options = LiveOptions(audio=audio)
    return Session(PATTERN, ["same"], open_as(Same()), list(sinks), opener, options=options, on_message=on_message)


def check_clocks(frames: list[dict[str, float]]) -> None:
    """Checks that the frames' own clocks run as their timestamps do."""
    shown = [frame for frame in frames if frame["clock"] is not None]
    assert len(shown) > 0.8 * len(frames)
    for frame in shown:
        assert (frame["clock"] - shown[0]["clock"]) == pytest.approx(frame["pts"] - shown[0]["pts"], abs=0.003)


def test_every_output_gets_the_frames_with_their_times(tmp_path: Path) -> None:
    """A server is killed and started again twice meanwhile; the others, and the run, do not notice."""
    rtmp = f"rtmp://127.0.0.1:{free_port()}/live/{KEY}"
    rtsp, udp = f"rtsp://127.0.0.1:{free_port()}/{KEY}", f"udp://127.0.0.1:{free_port()}"
    messages: list[str] = []
    with (
        Receiver(rtmp, listen="1") as rtmp_server,
        Receiver(rtsp, rtsp_flags="listen", listen_timeout="60") as rtsp_server,
        Receiver(udp, "mpegts") as udp_receiver,
    ):
        session = session_to(f"{rtmp}#bitrate=1M", rtsp, f"{udp}#bitrate=500k", f"hls://{tmp_path / 'hls'}", messages=messages)

        def act() -> None:
            for server in (rtmp_server, rtsp_server, udp_receiver):
                server.wait_for_frames(25)
                frames = server.frames[5:]  # an RTSP receiver numbers the first ones before it knows the sender's clock
                check_clocks(frames)
                keys = [frame["pts"] for frame in frames if frame["key"]]
                assert (
                    all(0.45 < later - earlier < 0.65 for earlier, later in zip(keys, keys[1:], strict=False)) and len(keys) > 1
                )
            for number in (1, 2):
                before = len(rtsp_server.frames)
                rtmp_server.kill()
                wait_for(lambda: not session.outputs[0].is_connected, "the loss is noticed")
                rtmp_server.start()
                rtmp_server.wait_for_frames(5)
                assert session.outputs[0].reconnects == number
                assert len(rtsp_server.frames) > before
            check_clocks(rtmp_server.frames)

        report = run_with(session, act)
    assert [sink.failure for sink in report.sinks] == [None] * 4
    assert report.sinks[0].reconnects == 2 and report.sinks[0].dropped > 0
    assert report.fps > 15
    frames = list(read_packets(str(tmp_path / "hls" / "live.m3u8"), "", {}))
    assert len(frames) > 30
    check_clocks(frames)
    assert "#EXT-X-ENDLIST" in (tmp_path / "hls" / "live.m3u8").read_text()
    printed = "\n".join(messages)
    assert printed.count("is gone") == printed.count("is back after") == 2
    assert KEY not in printed + repr(report)


def test_an_output_that_blocks_drops_frames_and_does_not_block_the_run() -> None:
    udp = f"udp://127.0.0.1:{free_port()}"
    opened: list[NetworkOutput] = []

    def open_output(address: str, controls: object) -> Sink:
        opened.append(NetworkOutput(address, controls))  # type: ignore[arg-type]
        return opened[0]

    session = Session(PATTERN, ["same"], open_as(Same()), [udp], open_output)

    def act() -> None:
        wait_for(lambda: opened[0].output.sent > 3, "frames are sent")
        connection = opened[0]._connection
        assert connection is not None
        os.kill(connection._process._process.pid, signal.SIGSTOP)  # as if the network took nothing
        dropped, shown = opened[0].output.dropped, session.meter.shown
        wait_for(lambda: opened[0].output.dropped >= dropped + 10, "frames are dropped")
        assert session.meter.shown >= shown + 10

    start = time.monotonic()
    report = run_with(session, act)
    assert time.monotonic() - start < LIMIT
    assert report.sinks[0].failure is None and report.sinks[0].dropped >= 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("output-")]


def test_a_server_that_never_answers_is_a_failure_at_the_end(tmp_path: Path) -> None:
    messages: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        addresses = [f"rtmp://user:{KEY}@127.0.0.1:{port}/live/{KEY}" for port in (free_port(), silent.getsockname()[1])]
        session = session_to(*addresses, "null", messages=messages)
        report = run_with(session, lambda: wait_for(lambda: any("not there" in line for line in messages), "the message"))
    failure = report.sinks[0].failure or ""
    assert "no frame was ever sent (Connection refused" in failure
    assert report.sinks[1].failure == "no frame was ever sent (the run ended before the server answered)"
    assert not any(line.count("rtmp://") > 1 for line in messages), "each line names its output once"
    assert KEY not in "\n".join(messages) + repr(report)


def test_rtmps_checks_the_certificate_unless_told_otherwise(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path))
    rtmp = free_port()
    messages: list[str] = []

    def serve(client: socket.socket) -> None:
        with (
            suppress(OSError),
            context.wrap_socket(client, server_side=True) as secured,
        ):
            first = secured.recv(1 << 16)
            if first:  # or the sender has rejected the certificate
                with socket.create_connection(("127.0.0.1", rtmp)) as server:
                    server.sendall(first)
                    threading.Thread(target=pump, args=(secured, server), daemon=True).start()
                    pump(server, secured)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with (
        Receiver(f"rtmp://127.0.0.1:{rtmp}/live/{KEY}", listen="1") as receiver,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        threading.Thread(target=accept, daemon=True).start()
        address = f"rtmps://127.0.0.1:{listening.getsockname()[1]}/live/{KEY}"
        session = session_to(address, f"{address}#verify=no", messages=messages)

        def act() -> None:
            receiver.wait_for_frames(3)
            wait_for(lambda: any("not there" in line for line in messages), "the refusal")

        report = run_with(session, act)
        listening.shutdown(socket.SHUT_RDWR)
    assert "no frame was ever sent" in (report.sinks[0].failure or "") and report.sinks[1].failure is None
    assert "certificate" in (report.sinks[0].failure or "")
    assert KEY not in "\n".join(messages) + repr(report)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"rtmp://h/live/{KEY}#bitrate=fast", "a bit rate is written like 4M"),
        (f"rtmp://h/live/{KEY}#bitrate=1", "from 50k to 200M"),
        (f"rtmp://h/live/{KEY}#keyframe-interval=0", "from 0.1 to 60 s"),
        (f"rtmp://h/live#{KEY}=1", "expected the settings bitrate, keyframe-interval"),
        (f"rtmp://h/live/{KEY}#encoder=fastest", "expected encoder=auto"),
        (f"rtsp://h/live/{KEY}#verify=no", "for rtmps:// only"),
        (f"rtmp:///live/{KEY}", "expected a host"),
        ("hls://", "expected a folder"),
    ],
)
def test_a_wrong_address_is_one_line_without_the_key(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse_output(address, StreamSettings())
    assert KEY not in str(raised.value) and "\n" not in str(raised.value)


def test_a_playlist_is_replaced_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "live.m3u8").write_text("precious")
    for address in (f"hls://{tmp_path}", str(tmp_path / "live.m3u8")):
        with pytest.raises(OutputExistsError, match="exists already; --overwrite replaces it"):
            parse_output(address, StreamSettings())
        assert parse_output(address, StreamSettings(), overwrite=True).muxer == "hls"
    with pytest.raises(MissingSink, match="cannot be written"):  # other outputs go on without it
        NetworkOutput(f"hls://{tmp_path}/live.m3u8/x", SimpleNamespace())


def test_srt_without_the_library_is_one_line() -> None:
    if has_protocol("srt"):
        pytest.skip("this FFmpeg has SRT")
    with pytest.raises(MissingSink, match=r"srt://127.0.0.1:9: this build of FFmpeg has no SRT; send rtmp://"):
        parse_output("srt://127.0.0.1:9", StreamSettings())


def test_metrics_have_the_state_of_each_output() -> None:
    pytest.importorskip("prometheus_client")
    from cyclecast.video.live.sinks.web.metrics import Metrics

    outputs = [OutputState("rtmp://h/...", True, 5, 2, 1), OutputState("rtmp://h/...")]
    metrics = Metrics(SimpleNamespace(outputs=outputs), SimpleNamespace())  # type: ignore[arg-type]
    found = {(sample.name, sample.labels["output"]): sample.value for one in metrics._outputs() for sample in one.samples}
    names = ("sent_total", "dropped_total", "reconnects_total", "connected")
    for output, values in (("1 rtmp://h/...", (5, 2, 1, 1)), ("2 rtmp://h/...", (0, 0, 0, 0))):
        assert tuple(found[f"cyclecast_output_{name}", output] for name in names) == values
