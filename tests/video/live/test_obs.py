"""The audio sync offset in OBS follows the latency of a run. OBS is a stand-in here, which speaks its documented protocol."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("websockets", reason="needs the extra obs")

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from cyclecast.errors import ConfigError
from cyclecast.video.live.meter import Meter, RecentFigures
from cyclecast.video.live.remotes.obs import AudioSync, obs_opener
from cyclecast.video.live.remotes.obs_client import authentication
from cyclecast.video.live.sinks.sink import SessionControls
from tests.commands import run_command
from tests.video.live.sessions import wait_for

PASSWORD = "supersecretpassword"
CHALLENGE, SALT = "+IxH4CnCiqpX1rM9scsNynZzbOe4KhDeYcTNS3PDaeY=", "lM1GncleQOaCu9lT1yeUZhFYnqhsLLP1G5lAGo3ixaI="


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cyclecast.video.live.remotes.obs.POLL_S", 0.02)
    monkeypatch.setattr("cyclecast.video.live.remotes.obs.RETRY_DELAYS_S", (0.02, 0.1))


class StandIn:
    """OBS as its protocol describes it: Hello, Identify with a challenge, Identified, requests and responses."""

    def __init__(self, password: str | None = PASSWORD) -> None:
        self.password = password
        self.offsets = {"Mic/Aux": 7, "Desk": -20, "Guitar": 0}
        self.microphone: str | None = "Mic/Aux"
        self.sets: list[tuple[str, int]] = []
        self.port = 0
        self._server: Server | None = None

    def start(self) -> None:
        """Listens; after `stop`, at the same port."""
        self._server = serve(self._talk, "127.0.0.1", self.port, subprotocols=[Subprotocol("obswebsocket.json")])
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Closes all connections, as OBS does when it ends."""
        assert self._server is not None
        self._server.shutdown()

    def _talk(self, connection: ServerConnection) -> None:
        try:
            self._identify(connection)
            for text in connection:
                message = json.loads(text)
                assert message["op"] == 6
                connection.send(json.dumps({"op": 5, "d": {"eventType": "InputMuteStateChanged", "eventIntent": 8}}))
                connection.send(json.dumps({"op": 7, "d": self._response(message["d"])}))
        except ConnectionClosed:
            pass

    def _identify(self, connection: ServerConnection) -> None:
        assert connection.subprotocol == "obswebsocket.json"
        hello: dict[str, Any] = {"obsWebSocketVersion": "5.5.2", "rpcVersion": 1}
        if self.password is not None:
            hello["authentication"] = {"challenge": CHALLENGE, "salt": SALT}
        connection.send(json.dumps({"op": 0, "d": hello}))
        identify = json.loads(connection.recv())
        assert identify["op"] == 1 and identify["d"]["rpcVersion"] == 1
        if self.password is not None:
            secret = base64.b64encode(hashlib.sha256((self.password + SALT).encode()).digest()).decode()
            expected = base64.b64encode(hashlib.sha256((secret + CHALLENGE).encode()).digest()).decode()
            if identify["d"].get("authentication") != expected:
                connection.close(4009, "Authentication failed.")
                return
        connection.send(json.dumps({"op": 2, "d": {"negotiatedRpcVersion": 1}}))

    def _response(self, request: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(request["requestId"], str)
        data, name = request.get("requestData", {}), request.get("requestData", {}).get("inputName")
        status: dict[str, Any] = {"result": True, "code": 100}
        answer: dict[str, Any] | None = None
        if name is not None and name not in self.offsets:
            status = {"result": False, "code": 600, "comment": f"No source was found by the name of `{name}`."}
        else:
            match request["requestType"]:
                case "GetSpecialInputs":
                    answer = {"desktop1": "Desktop Audio", "desktop2": None, "mic1": self.microphone, "mic2": None}
                case "GetInputList":
                    answer = {"inputs": [{"inputName": each, "inputKind": "pulse_input_capture"} for each in self.offsets]}
                case "GetInputAudioSyncOffset":
                    answer = {"inputAudioSyncOffset": self.offsets[name]}
                case "SetInputAudioSyncOffset":
                    assert -950 <= data["inputAudioSyncOffset"] <= 20_000
                    self.offsets[name] = data["inputAudioSyncOffset"]
                    self.sets.append((name, data["inputAudioSyncOffset"]))
                case other:
                    status = {"result": False, "code": 204, "comment": other}
        mirrored = {key: request[key] for key in ("requestType", "requestId")}
        return mirrored | {"requestStatus": status} | ({} if answer is None else {"responseData": answer})


@pytest.fixture
def obs() -> Iterator[StandIn]:
    stand_in = StandIn()
    stand_in.start()
    yield stand_in
    stand_in.stop()


class SetMeter(Meter):
    """A meter whose latency the test sets, and that knows how often it was read since."""

    def __init__(self) -> None:
        super().__init__()
        self.add_shown(0.04, time.perf_counter() - 10)  # the first frame, long ago
        self.set_latency(40)

    def set_latency(self, milliseconds: float) -> None:
        self.current_ms, self.reads = milliseconds, 0

    def recent(self) -> RecentFigures:
        self.reads += 1
        return RecentFigures(30.0, self.current_ms, 10.0)


class Run:
    """What `AudioSync` sees of a run: its latency, and where its messages go."""

    def __init__(self) -> None:
        self.meter, self.messages = SetMeter(), list[str]()
        self.feed = SimpleNamespace(outage=None)
        self.set_latency = self.meter.set_latency

    def report(self, line: str) -> None:
        self.messages.append(line)

    def has_reported(self, text: str) -> bool:
        return any(text in line for line in self.messages)


@contextmanager
def syncing(run: Run, address: str, *inputs: str) -> Iterator[None]:
    sync = obs_opener(address, inputs)(cast(SessionControls, run))
    try:
        yield
    finally:
        sync.close()
        assert "obs" not in [thread.name for thread in threading.enumerate()]


def test_the_offset_follows_the_latency_and_is_restored(obs: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLECAST_OBS_PASSWORD", PASSWORD)
    run = Run()
    run.set_latency(43.4)
    with syncing(run, f"ws://127.0.0.1:{obs.port}"):
        wait_for(lambda: obs.offsets["Mic/Aux"] == 43, "the latency as the offset of the first microphone")
        run.set_latency(53.4)  # 10 ms more: too little to follow
        wait_for(lambda: run.meter.reads > 2)
        run.set_latency(30)
        wait_for(lambda: obs.offsets["Mic/Aux"] == 30, "another latency")
        run.feed.outage = ("gone", 1.0)
        run.set_latency(400)
        wait_for(lambda: run.meter.reads > 2)
        run.set_latency(80)
        wait_for(lambda: run.meter.reads > 2)
        run.feed.outage = None
        wait_for(lambda: obs.offsets["Mic/Aux"] == 80, "the latency after an outage")
    assert obs.sets == [("Mic/Aux", 43), ("Mic/Aux", 30), ("Mic/Aux", 80), ("Mic/Aux", 7)], "the previous offset at the end"
    assert run.messages == [
        f"OBS: connected to ws://127.0.0.1:{obs.port}",
        "OBS: the audio of Mic/Aux is delayed by 43 ms (before: 7 ms)",
    ]


def test_it_connects_again_and_restores_what_was_before_the_run(obs: StandIn) -> None:
    run = Run()
    run.set_latency(60)
    with syncing(run, f"ws://{PASSWORD}@127.0.0.1:{obs.port}", "Desk", "Absent", "Guitar"):
        wait_for(lambda: obs.offsets["Desk"] == obs.offsets["Guitar"] == 60, "two inputs by their names")
        obs.stop()
        wait_for(lambda: run.has_reported("trying again"), "the report of the loss")
        obs.offsets["Desk"] = 60  # as OBS has saved it
        run.set_latency(95)
        obs.start()
        wait_for(lambda: obs.offsets["Desk"] == 95, "the offset after OBS has started again")
        count = len(run.messages)
        obs.stop()
        wait_for(lambda: any("trying again" in line for line in run.messages[count:]), "the report of the second loss")
        obs.start()
    assert obs.offsets == {"Mic/Aux": 7, "Desk": -20, "Guitar": 0}
    assert run.has_reported("OBS: there is no input Absent; there are: Mic/Aux, Desk, Guitar")
    assert not run.has_reported(PASSWORD)


def test_a_problem_is_reported_once_in_one_line(obs: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    address, run = f"127.0.0.1:{obs.port}", Run()
    with syncing(run, f"ws://wrong-{PASSWORD}@{address}"):
        wait_for(lambda: run.has_reported("it rejects the password; set CYCLECAST_OBS_PASSWORD; trying again"))
        obs.password = f"wrong-{PASSWORD}"
        obs.microphone = None
        wait_for(lambda: run.has_reported("OBS: there is no microphone in its settings; name an input: --obs-audio NAME"))
    with syncing(run, f"ws://{address}"):
        wait_for(lambda: run.has_reported("it asks for a password; set CYCLECAST_OBS_PASSWORD; trying again"))
        obs.stop()
        wait_for(lambda: run.has_reported("Connection refused; trying again"))
    obs.start()
    assert len(set(run.messages)) == len(run.messages) and not any("\n" in line for line in run.messages)
    assert PASSWORD not in caplog.text and PASSWORD not in "".join(run.messages)


def test_the_offsets_left_behind_are_named(obs: StandIn) -> None:
    run = Run()
    run.set_latency(60)
    with syncing(run, f"ws://{PASSWORD}@127.0.0.1:{obs.port}"):
        wait_for(lambda: obs.offsets["Mic/Aux"] == 60)
        obs.stop()
    assert run.messages[-1].endswith("Connection refused; set the audio sync offset there yourself (Mic/Aux: 7 ms)")
    obs.start()


def test_the_challenge_is_answered_as_the_protocol_says() -> None:
    assert authentication(PASSWORD, SALT, CHALLENGE) == "1Ct943GAT+6YQUUX47Ia/ncufilbe6+oD6lY+5kaCu4="


def test_an_invalid_address_is_an_error_without_the_password() -> None:
    for address in (
        "127.0.0.1:4455",
        "http://host",
        "ws://",
        f"ws://{PASSWORD}@host:99999",
        f"ws://{PASSWORD}@host/path",
        "ws://h?x",
    ):
        with pytest.raises(ConfigError, match=r"^--obs: expected ws://HOST:4455, and the password in") as raised:
            obs_opener(address, ())
        assert PASSWORD not in str(raised.value)
    opener: Any = obs_opener("ws://p%40ss@[::1]", ["Mic"])
    assert opener.func is AudioSync and opener.args == ("ws://[::1]:4455", "p@ss", ["Mic"])


@pytest.mark.parametrize(
    ("package", "extra", "options"), [("websockets", "obs", ("--obs", "ws://host")), ("python-osc", "osc", ("--osc", "0"))]
)
def test_a_missing_library_is_one_line(
    monkeypatch: pytest.MonkeyPatch, package: str, extra: str, options: tuple[str, str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("websockets", "pythonosc", "cyclecast.video.live.remotes.o"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package.replace("python-osc", "pythonosc"), None)
    done = run_command("live", "pattern://160x96@30", "--sink", "null", *options)
    assert done.returncode == 1 and done.stderr.endswith(f" needs {package}: pip install 'cyclecast[{extra}]'\n")


def test_the_command_controls_obs_and_receives_osc(obs: StandIn) -> None:
    arguments = ("--sink", "null", "--obs", f"ws://{PASSWORD}@127.0.0.1:{obs.port}", "--obs-audio", "Guitar", "--osc", "0")
    done = run_command("live", "pattern://160x96@30", "--model", "pencil", "--seconds", "1.6", *arguments)
    assert done.returncode == 0, done.stderr
    assert [name for name, _ in obs.sets] == ["Guitar", "Guitar"] and 1 < obs.sets[0][1] < 1000 and obs.offsets["Guitar"] == 0
    assert "OSC: udp://127.0.0.1:" in done.stderr and PASSWORD not in done.stderr
    for wrong, words in ((("--obs-audio", "Mic"), "--obs-audio needs --obs"), (("--osc", "x"), "--osc x: expected PORT")):
        done = run_command("live", "pattern://160x96@30", "--sink", "null", *wrong)
        assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1
