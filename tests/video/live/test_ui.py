"""`cyclecast ui`: the command, the page's start screen and its token, from the browser's first request to the end of the run."""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest

from cyclecast import cli
from cyclecast.cli.ui import show_page
from cyclecast.errors import ConfigError
from tests.commands import run_command
from tests.video.live.served import LIMIT, eventually

from cyclecast.video.live.sinks.web.start_screen import checked_source  # noqa: E402  isort: skip  # needs the extra web


def run_ui(monkeypatch: pytest.MonkeyPatch, visit: Callable[[str, httpx.Client], None], *arguments: str) -> str:
    """Runs the command; `visit` plays the browser that it opens, in a thread. Returns what the command printed."""
    failures: list[BaseException] = []

    def open_page(url: str) -> bool:
        def browse() -> None:
            origin = url.partition("/?")[0]
            with httpx.Client(base_url=origin, timeout=LIMIT, trust_env=False, headers={"Origin": origin}) as client:
                try:
                    visit(url, client)
                except BaseException as error:
                    failures.append(error)
                client.post("/api/quit")

        threading.Thread(target=browse).start()
        return True

    monkeypatch.setattr(webbrowser, "get", lambda: SimpleNamespace(open=open_page))
    done = run_command("ui", "-m", "monet", "-m", "pencil", "--port", "0", *arguments)
    if failures:
        raise failures[0]
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_source_is_chosen_in_the_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip: Path) -> None:
    tokens: list[str] = []
    monkeypatch.chdir(tmp_path)  # recordings go there

    def visit(url: str, client: httpx.Client) -> None:
        assert client.get("/api/state").status_code == 401, "other users of the machine need the token, too"
        assert client.get(url).status_code == 200
        tokens.extend([url.partition("token=")[2], *client.cookies.values()])
        assert httpx.get(url, trust_env=False).status_code == 401, "the code in the browser's command line works once"

        def start() -> Any:
            return client.get("/api/state").json()["start"]

        assert not start()["has_source"] and start()["samples"] == ["monet", "pencil"]
        data = client.get("/thumbnail.jpg", params={"model": "pencil"}).content
        assert np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), 1)).shape == (108, 192, 3)
        assert client.get("/thumbnail.jpg", params={"model": "../pencil"}).status_code == 404
        assert isinstance(client.get("/api/cameras").json()["cameras"], list)
        for on in (True, False):
            client.post("/api/record", json={"on": on})
        assert not list(tmp_path.iterdir()), "a recording without a source"
        refused = client.post("/api/source", json={"source": "/no/such.mp4"})
        assert refused.status_code == 409 and refused.json()["error"] == "/no/such.mp4: no such file on this machine"
        assert (
            client.post("/api/source", json={"source": "pattern://160x96@30"}, headers={"Origin": "http://evil"}).status_code
            == 403
        )
        assert client.post("/api/source", json={"source": "pattern://160x96@30"}).status_code == 204
        eventually(lambda: client.get("/api/state").json()["size"] == [160, 96], "frames of the source")
        assert start()["has_source"] and start()["opening"] is None and not start()["virtual"]
        assert client.post("/api/output", json={"output": "window", "on": True}).status_code == 422
        client.post("/api/source", json={"source": str(clip)})
        eventually(lambda: client.get("/api/state").json()["size"] == [64, 48], "frames of the second source")
        file = client.post("/api/record", json={"on": True}).json()["file"]
        shown = client.get("/api/state").json()["shown"]
        eventually(lambda: client.get("/api/state").json()["shown"] > shown + 15, "recorded frames")
        client.post("/api/record", json={"on": False})
        with av.open(file) as recorded:
            sound = np.concatenate([frame.to_ndarray().ravel() for frame in recorded.decode(audio=0)])
        assert np.abs(sound).max() > 0.05, "the sound of the source is in the recording"

    printed = run_ui(monkeypatch, visit)
    code, token = tokens
    assert code not in printed and f"?token={token}" in printed and "the source is pattern://160x96@30" in printed
    assert ".mp4 is not written: there was no frame\n" in printed and printed.count("recorded cyclecast-") == 1


def test_a_port_in_use_is_one_line(tiny_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = run_command("ui", "-m", tiny_model, "--no-open", "--port", other.getsockname()[1])
    assert done.returncode == 1 and done.stderr.endswith("type another port: --port PORT\n"), done.stderr


def test_what_a_page_must_not_open_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for address in ("-", str(tmp_path / "pipe")):
        with pytest.raises(ConfigError, match="in the terminal only"):
            checked_source(address)
    assert checked_source("browser") == "browser" and checked_source("rtsp://10.0.0.7/x") == "rtsp://10.0.0.7/x"


def test_without_arguments_only_a_person_gets_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for argv, stream, wanted in (
        (["cyclecast"], Terminal, True),
        (["cyclecast"], io.StringIO, False),
        (["cyclecast", "-h"], Terminal, False),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", argv)
            patch.setattr(sys, "stdin", stream())
            patch.setattr(sys, "stdout", stream())
            assert cli.is_ui_wanted() is wanted
    assert "Usage" in run_command().stdout + run_command().stderr
    monkeypatch.delenv("BROWSER", raising=False)
    monkeypatch.setattr(webbrowser, "get", lambda: webbrowser.GenericBrowser("lynx"))
    assert not show_page("http://127.0.0.1/"), "a browser in the terminal would take it over"
