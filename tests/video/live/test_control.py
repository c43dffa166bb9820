"""What changes a run from outside: the control API, and the queue that keys, the page and programs share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyclecast.errors import OutputError
from cyclecast.video.files.images import read_image
from cyclecast.video.live.control_queue import MAX_WAITING
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
