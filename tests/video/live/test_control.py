"""What changes a run from outside: the control API, and the queue that keys, the page and programs share."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pythonosc", reason="needs the extra osc")

from pythonosc.osc_bundle_builder import OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from cyclecast.errors import ConfigError, OutputError
from cyclecast.video.files.images import read_image
from cyclecast.video.live.control_queue import MAX_WAITING
from cyclecast.video.live.remotes.osc import OscServer, bind_udp, osc_opener
from tests.documents import ROOT
from tests.video.live.served import Served, eventually, serving
from tests.video.live.test_web_access import assert_rejected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yields the current folder of the run, where its files go."""
    folder = tmp_path_factory.mktemp("control")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serving(styles=("same", "swapped", "negative")) as served:
        yield served


@pytest.mark.parametrize(
    ("path", "body", "state"),
    [
        ("strength", {"strength": 0.4}, {"strength": 0.4}),
        ("strength", {"strength": 1}, {"strength": 1.0}),
        ("split", {"split": 0.25}, {"split": 0.25}),
        ("split", {"split": None}, {"split": None}),
        ("mirror", {"on": True}, {"on": True}),
        ("mirror", {"on": False}, {"on": False}),
    ],
)
def test_a_request_sent_twice_has_the_same_effect_as_sent_once(
    served: Served, path: str, body: dict[str, Any], state: dict[str, Any]
) -> None:
    for _ in range(2):
        answer = served.post(f"/api/{path}", **body)
        assert (answer.status_code, answer.json()) == (200, state)
        assert served.client.get(f"/api/{path}").json() == state
    assert [served.state()[path]] == list(body.values())


def test_a_style_is_set_by_its_name_or_its_number(served: Served) -> None:
    styles = ["same", "swapped", "negative"]
    for style, name in ((3, "negative"), ("swapped", "swapped"), ("swapped", "swapped"), (1, "same")):
        answer = served.post("/api/style", style=style)
        assert answer.status_code == 200 and (answer.json()["requested"], answer.json()["styles"]) == (name, styles)
        eventually(lambda name=name: served.client.get("/api/style").json()["style"] == name, f"the style {name}")  # type: ignore[misc]
        eventually(lambda name=name: served.session.newest.model == name, "a frame in this style")  # type: ignore[misc, union-attr]


def test_recordings_and_snapshots_name_their_file(served: Served, folder: Path) -> None:
    assert served.client.get("/api/record").json() == {"on": False, "file": None}
    first, second = (served.post("/api/record", on=True).json() for _ in range(2))
    assert first == second == served.client.get("/api/record").json() and first["on"] and first["file"].endswith(".mp4")
    assert [served.post("/api/record", on=False).json() for _ in range(2)] == [{"on": False, "file": None}] * 2
    assert served.client.get("/api/snapshot").json() == {"file": None}
    saved = served.client.post("/api/snapshot", content=b"", headers={"Origin": served.origin}).json()
    assert served.client.get("/api/snapshot").json() == saved
    assert read_image(folder / saved["file"]).shape == (240, 320, 3)


def test_an_invalid_control_request_is_one_line_of_json(served: Served) -> None:
    before = served.state()
    assert_rejected(served.post("/api/style", style="rembrandt"), 422, "there are: same, swapped, negative")
    assert_rejected(served.post("/api/style", style=4), 422, "there is no style 4")
    assert_rejected(served.post("/api/style", style=0), 422, "there is no style 0")
    assert_rejected(served.post("/api/style", name="same"), 422, "body.style: Field required")
    assert_rejected(served.post("/api/strength", strength=0.5, viewer="one"), 422, "body.viewer: Extra inputs are not permitted")
    assert_rejected(served.post("/api/split"), 422, "body.split: Field required")
    assert_rejected(served.post("/api/record", on="perhaps"), 422, "body.on")
    assert_rejected(served.client.put("/api/strength", json={}, headers={"Origin": served.origin}), 405, "Method Not Allowed")
    after = served.state()
    assert [before[key] for key in ("requested_model", "strength", "split", "recording")] == [
        after[key] for key in ("requested_model", "strength", "split", "recording")
    ]


def test_openapi_describes_every_path_of_docs_control(served: Served) -> None:
    api = served.client.get("/api/openapi.json").json()
    assert api["openapi"].startswith("3.") and api["info"]["title"] == "cyclecast live"
    readable_and_writable = {path for path, methods in api["paths"].items() if {"get", "post"} <= methods.keys()}
    assert readable_and_writable == {f"/api/{name}" for name in ("style", "strength", "split", "mirror", "record", "snapshot")}
    described = api["components"]["schemas"]["RunState"]["properties"].keys()
    assert served.state().keys() == described, "RunState describes each field of the state"
    failure = api["paths"]["/api/strength"]["post"]["responses"]["422"]["content"]["application/json"]["schema"]
    assert failure == {"$ref": "#/components/schemas/Failure"} and "HTTPBearer" in api["components"]["securitySchemes"]
    text = (ROOT / "docs" / "control.md").read_text("utf-8")
    assert [path for path in api["paths"] if path.startswith("/api/") and path not in text] == []


def test_steps_and_toggles_of_all_who_control_a_run_are_carried_out_one_after_another(served: Served) -> None:
    queue, switcher = served.session.queue, served.session.switcher
    queue.set_strength(0.0).result()
    steps = [queue.step_strength(0.1) for _ in range(4)]
    served.post("/api/strength", strength=0.75)
    assert [round(step.result(), 1) for step in steps] == [0.1, 0.2, 0.3, 0.4] and switcher.strength == 0.75
    assert [queue.step_strength(step).result() for step in (0.1, 0.2, -2)] == [0.85, 1.0, 0.0]
    served.post("/api/split", split=0.3)
    assert [queue.toggle_split().result() for _ in range(3)] == [None, 0.3, None]
    assert queue.step_split(0.1).result() == pytest.approx(0.4) and queue.step_split(9).result() == 1
    toggles = [queue.set_mirror(None) for _ in range(MAX_WAITING // 2)]
    assert [toggle.result() for toggle in toggles] == [True, False] * (MAX_WAITING // 4)
    assert queue.step_style(-1).result() == "negative" and queue.step_style(1).result() == "same"


def test_requests_after_the_end_of_a_run_fail() -> None:
    with serving() as other:
        queue = other.session.queue
        other.end()
        for request in (queue.set_strength(0.5), queue.set_recording(True), queue.save_snapshot()):
            with pytest.raises(OutputError, match=r"^the run has ended$"):
                request.result()


@pytest.fixture(scope="module")
def osc(served: Served) -> Iterator[OscServer]:
    server = OscServer("127.0.0.1", 0, served.session)
    yield server
    server.close()
    assert "osc" not in [thread.name for thread in threading.enumerate()]
    bind_udp("127.0.0.1", server.port).close()


def packet_of(address: str, *values: Any) -> OscMessage:
    message = OscMessageBuilder(f"/cyclecast/{address}")
    for value in values:
        message.add_arg(value)
    return message.build()


def send(osc: OscServer, *packets: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for packet in packets:
            sender.sendto(packet, ("127.0.0.1", osc.port))


def test_osc_sets_the_same_state_as_the_api(served: Served, osc: OscServer, folder: Path) -> None:
    switcher = served.session.switcher

    def sets(address: str, values: list[Any], is_done: Callable[[], bool]) -> None:
        send(osc, packet_of(address, *values).dgram)
        eventually(is_done, f"{address} {values}")

    sets("style", ["negative"], lambda: switcher.requested_model == "negative")
    sets("style", [2], lambda: switcher.requested_model == "swapped")
    sets("style", [1.0], lambda: switcher.requested_model == "same")
    sets("strength", [0.5], lambda: switcher.strength == 0.5)
    sets("strength", [1], lambda: switcher.strength == 1)
    sets("split", [0.25], lambda: switcher.split == 0.25)
    sets("split", [], lambda: switcher.split is None)
    sets("mirror", [True], lambda: switcher.mirror)
    sets("mirror", [0], lambda: not switcher.mirror)
    sets("record", [1], lambda: served.session.recording is not None)
    send(osc, packet_of("record", 1).dgram)
    sets("record", [0.0], lambda: served.session.recording is None)
    count = len(list(folder.glob("*.png")))
    send(osc, packet_of("snapshot", 0).dgram)  # the button is released
    sets("snapshot", [], lambda: len(list(folder.glob("*.png"))) == count + 1)
    bundle = OscBundleBuilder(round(time.time()) + 1000)  # for later: it is carried out at once
    for strength in (0.1, 0.2):
        bundle.add_content(packet_of("strength", strength))
    send(osc, bundle.build().dgram)
    eventually(lambda: switcher.strength == pytest.approx(0.2), "both messages of a bundle, in order")
    sets("strength", [1.0], lambda: switcher.strength == 1)


NOT_OSC = [
    b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", b"/cyclecast/strength", b"/cyclecast/strength\0,", b"/cyclecast/strength\0,f\0\0",
    b"/cyclecast/strength\0,?\0\0", b"/cyclecast/strength\0,[[[\0\0\0\0", b"/\xff\xfe\0,s\0\0a\0\0\0", b"#bundle\0",
    b"#bundle\0" + bytes(8) + b"\xff\xff\xff\xff", b"#bundle\0" + bytes(8) + b"\0\0\0\x7f" + b"/a\0\0",
    (b"#bundle\0" + bytes(8) + b"\0\0\xff\0") * 100, bytes(range(256)) * 32,
]  # fmt: skip


def test_malformed_osc_is_reported_once_and_ends_nothing(
    served: Served, osc: OscServer, capfd: pytest.CaptureFixture[str]
) -> None:
    before = len(served.messages)
    invalid: list[tuple[Any, ...]] = [
        ("style", "rembrandt\x1b[2J"), ("style", 7), ("style", 1.5), ("strength", "full"), ("strength", 3.0), ("strength", 1, 2),
        ("strength", float("nan")), ("split", -1), ("record", "on"), ("nothing", 1), ("\x1b[2J", 1), ("nothing", 2),
    ]  # fmt: skip
    send(osc, *NOT_OSC, *NOT_OSC, packet_of(*invalid[0]).dgram)
    eventually(lambda: any("rembrandt" in line for line in served.messages), "the report of an unknown style")
    for strength in (0.375, 1.0):
        send(osc, *(packet_of(*each).dgram for each in invalid), packet_of("strength", strength).dgram)
        eventually(lambda strength=strength: served.session.switcher.strength == strength, "a valid message")  # type: ignore[misc]
    lines = [line for line in served.messages[before:] if line.startswith("OSC")]
    assert sorted(lines) == [
        "OSC: /cyclecast/record: expected one number, got ['on']",
        "OSC: /cyclecast/split: split must be from 0 to 1, a share of the width, got -1",
        "OSC: /cyclecast/strength: expected one number, got ['full']",
        "OSC: /cyclecast/style: no model 'rembrandt\\x1b[2J' was given; there are: same, swapped, negative",
        "OSC: a packet is not OSC 1.0 and was ignored",
        "OSC: there is no /cyclecast/nothing; there are: /cyclecast/style, /cyclecast/strength, /cyclecast/split, "
        "/cyclecast/mirror, /cyclecast/record, /cyclecast/snapshot",
    ]
    assert capfd.readouterr() == ("", ""), "the library prints nothing"


def test_an_osc_address_is_local_unless_it_names_a_host(served: Served, osc: OscServer) -> None:
    hosts = {"9000": "127.0.0.1", "0.0.0.0:9000": "0.0.0.0", "[::1]:9000": "::1", "stage.local:1": "stage.local"}
    for address, host in hosts.items():
        opener = osc_opener(address)
        assert isinstance(opener, partial) and opener.args[0] == host
    for address in ("", "host", "udp://host:9000", "70000", "host:", "-1"):
        with pytest.raises(ConfigError, match="expected PORT or HOST:PORT, such as --osc 9000$"):
            osc_opener(address)
    with pytest.raises(OutputError, match=r"^cannot receive OSC at 127.0.0.1:\d+ \(Address already in use\); type another port"):
        osc_opener(str(osc.port))(served.session)
    OscServer("0.0.0.0", 0, served.session).close()
    assert served.messages[-1].endswith("; OSC has no password, so everybody in its network can control this run")
