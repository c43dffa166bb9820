"""The routes of the page's server: the page, the state of the run, its controls, and the video."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from cyclecast.video.live.capture.source_switcher import browser_feed
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sinks.web.assets import content_security_policy, inlined_page
from cyclecast.video.live.sinks.web.error_handlers import add_error_handlers
from cyclecast.video.live.sinks.web.metrics import CONTENT_TYPE, Metrics
from cyclecast.video.live.sinks.web.mjpeg import MjpegResponse
from cyclecast.video.live.sinks.web.start_screen import StartScreen, add_start_screen, start_state
from cyclecast.video.live.sinks.web.state import run_state
from cyclecast.video.live.sinks.web.view import Views
from cyclecast.video.live.sinks.web.viewers import Viewer, Viewers
from cyclecast.video.live.sinks.web.webrtc import PeerConnections

Split = float | None
"""As `StyledFrame.split`."""

SplitQuery = Annotated[Split, Query(ge=0, le=1)]


class OfferRequest(BaseModel):
    """A WebRTC offer; `viewer` is the page's own id, `split` where its slider is."""

    sdp: str = Field(max_length=60_000)
    type: Literal["offer"]
    viewer: str = Field("", max_length=64)
    split: Split = Field(None, ge=0, le=1)


class ModelRequest(BaseModel):
    """The name of the model to switch to."""

    name: str = Field(max_length=4096)


class StrengthRequest(BaseModel):
    """The share of the styled frame in the output, from 0 to 1."""

    strength: float = Field(ge=0, le=1)


class SwitchRequest(BaseModel):
    """The state that is wanted: sent twice, or by two viewers, it has the same effect as sent once."""

    on: bool


class SplitRequest(BaseModel):
    """Where to move one viewer's slider; null turns the comparison off."""

    viewer: str = Field(max_length=64)
    split: Split = Field(None, ge=0, le=1)


def build_app(controls: SessionControls, viewers: Viewers, peers: PeerConnections, screen: StartScreen | None = None) -> FastAPI:
    """Builds the app, for the event loop of `viewers` and `peers`. screen: for a run whose source the page chooses."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_page(app)
    add_state(app, controls, viewers, peers, screen)
    if screen is not None:
        add_start_screen(app, controls, screen)
    add_controls(app, controls, viewers)
    add_video(app, controls, viewers, peers)
    add_error_handlers(app, controls)
    return app


def add_page(app: FastAPI) -> None:
    """Adds GET /, the page."""
    page = inlined_page()
    headers = {"Content-Security-Policy": content_security_policy(page)}

    @app.get("/")
    async def index() -> Response:
        return HTMLResponse(page, headers=headers)


def add_state(
    app: FastAPI, controls: SessionControls, viewers: Viewers, peers: PeerConnections, screen: StartScreen | None
) -> None:
    """Adds GET /api/state for the page, /metrics for Prometheus, /healthz for a supervisor of the process."""
    metrics = Metrics(controls, viewers)

    @app.get("/api/state")
    async def state(viewer: str = "") -> dict[str, Any]:
        is_sending = bool(viewer) and peers.camera_viewer == viewer
        start = {"start": None} if screen is None else start_state(controls, screen)
        return run_state(controls, viewers) | start | {"watching": viewers.is_watching(viewer), "sending": is_sending}

    @app.get("/metrics")
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}


def add_controls(app: FastAPI, controls: SessionControls, viewers: Viewers) -> None:
    """Adds POST /api/...: each request says what is wanted, never `toggle`."""

    @app.post("/api/model", status_code=204)
    async def model(request: ModelRequest) -> None:
        controls.switcher.request_model(request.name)

    @app.post("/api/strength", status_code=204)
    async def strength(request: StrengthRequest) -> None:
        controls.switcher.request_strength(request.strength)

    @app.post("/api/mirror", status_code=204)
    async def mirror(request: SwitchRequest) -> None:
        controls.switcher.mirror = request.on

    @app.post("/api/record", status_code=204)
    async def record(request: SwitchRequest) -> None:
        await asyncio.to_thread(controls.set_recording, request.on)

    @app.post("/api/split", status_code=204)
    async def split(request: SplitRequest) -> None:
        if not viewers.set_split(request.viewer, request.split):
            raise HTTPException(404, "no viewer with this id is watching")


def add_video(app: FastAPI, controls: SessionControls, viewers: Viewers, peers: PeerConnections) -> None:
    """Adds POST /offer and GET /stream.mjpg, which send the video, POST /camera, which receives one, and GET /snapshot.png."""

    @app.post("/offer")
    async def offer(request: OfferRequest) -> dict[str, str]:
        sdp = await peers.send_video(request.sdp, Viewer(request.viewer, "webrtc", request.split))
        return {"sdp": sdp, "type": "answer"}

    @app.post("/camera")
    async def camera(request: OfferRequest) -> dict[str, str]:
        feed = browser_feed(controls.feed)
        if feed is None:
            source = controls.feed.name
            raise HTTPException(409, f"the source is {source}; for a browser's camera type: cyclecast live browser --sink web")
        sdp = await peers.receive_camera(request.sdp, request.viewer, feed)
        return {"sdp": sdp, "type": "answer"}

    @app.get("/stream.mjpg")
    async def mjpeg(viewer: str = "", split: SplitQuery = None) -> Response:
        return MjpegResponse(viewers, Viewer(viewer[:64], "mjpeg", split))

    snapshots = Views()

    @app.get("/snapshot.png")
    async def snapshot(split: SplitQuery = None) -> Response:
        if controls.newest is None:
            raise HTTPException(409, "there is no frame yet")
        snapshots.put(controls.newest)
        data = await snapshots.view(split).png()
        name = f"cyclecast-{datetime.now():%Y%m%d-%H%M%S}.png"
        return Response(data, media_type="image/png", headers={"Content-Disposition": f'attachment; filename="{name}"'})
