"""The routes of the page's server: the page, the state of the run, its controls, and the video."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse

from cyclecast._version import __version__
from cyclecast.video.live.capture.source_switcher import browser_feed
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sinks.web.assets import content_security_policy, inlined_page
from cyclecast.video.live.sinks.web.control_api import Failure, control_router
from cyclecast.video.live.sinks.web.error_handlers import add_error_handlers
from cyclecast.video.live.sinks.web.metrics import CONTENT_TYPE, Metrics
from cyclecast.video.live.sinks.web.mjpeg import MjpegResponse
from cyclecast.video.live.sinks.web.start_screen import StartScreen, add_start_screen, start_state
from cyclecast.video.live.sinks.web.state import RunState, run_state
from cyclecast.video.live.sinks.web.view import Views
from cyclecast.video.live.sinks.web.viewers import Viewer, Viewers
from cyclecast.video.live.sinks.web.webrtc import PeerConnections
from cyclecast.video.live.sinks.web_options import WebOptions

Split = float | None
"""As `StyledFrame.split`."""

SplitQuery = Annotated[Split, Query(ge=0, le=1)]


class PngResponse(Response):
    """An image; for the description of the API."""

    media_type = "image/png"


class OfferRequest(BaseModel):
    """A WebRTC offer; `viewer` is the page's own id, `split` where its slider is, unless it follows the run's split view."""

    sdp: str = Field(max_length=60_000)
    type: Literal["offer"]
    viewer: str = Field("", max_length=64)
    split: Split = Field(None, ge=0, le=1)
    follows_run: bool = False


def build_app(
    controls: SessionControls, viewers: Viewers, peers: PeerConnections, options: WebOptions, screen: StartScreen | None = None
) -> FastAPI:
    """Builds the app, for the event loop of `viewers` and `peers`. screen: for a run whose source the page chooses."""
    app = FastAPI(
        title="cyclecast live",
        version=__version__,
        summary="Controls a live run. A POST needs the header Origin with the address of the page.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses={
            401: {"model": Failure, "description": "The token is missing or wrong."},
            422: {"model": Failure, "description": "A value is invalid."},
        },
        dependencies=[Security(HTTPBearer(auto_error=False, description="The token of the page, if it has one."))],
    )
    add_page(app, "/", "page.html")
    add_page(app, "/obs", "obs.html")  # the video alone, for OBS
    add_state(app, controls, viewers, peers, options, screen)
    if screen is not None:
        add_start_screen(app, controls, screen)
    app.include_router(control_router(controls, viewers))
    add_video(app, controls, viewers, peers, options)
    add_error_handlers(app, controls)
    return app


def add_page(app: FastAPI, path: str, name: str) -> None:
    """Adds GET of a page of the folder static."""
    page = inlined_page(name)
    headers = {"Content-Security-Policy": content_security_policy(page)}

    @app.get(path, include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(page, headers=headers)


def add_state(
    app: FastAPI,
    controls: SessionControls,
    viewers: Viewers,
    peers: PeerConnections,
    options: WebOptions,
    screen: StartScreen | None,
) -> None:
    """Adds GET /api/state for the page, /metrics for Prometheus, /healthz for a supervisor of the process."""
    metrics = Metrics(controls, viewers)

    @app.get("/api/state", summary="The state of the run", response_model=RunState, tags=["control"])
    async def state(viewer: str = "") -> dict[str, Any]:
        is_sending = bool(viewer) and peers.camera_viewer == viewer
        start = {} if screen is None else start_state(controls, screen)
        seen = {"watching": viewers.is_watching(viewer), "sending": is_sending, "web_app": options.web_app}
        return run_state(controls, viewers) | start | seen

    @app.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/healthz", summary="Whether the server answers; needs no token")
    async def health() -> dict[str, str]:
        return {"status": "ok"}


def add_video(app: FastAPI, controls: SessionControls, viewers: Viewers, peers: PeerConnections, options: WebOptions) -> None:
    """Adds POST /offer and GET /stream.mjpg, which send the video, POST /camera, which receives one, and GET /snapshot.png."""

    @app.get("/api/ice", include_in_schema=False)
    async def ice() -> dict[str, Any]:
        return {"iceServers": options.ice_servers()}

    @app.post("/offer", include_in_schema=False)
    async def offer(request: OfferRequest) -> dict[str, str]:
        sdp = await peers.send_video(request.sdp, Viewer(request.viewer, "webrtc", request.split, request.follows_run))
        return {"sdp": sdp, "type": "answer"}

    @app.post("/camera", include_in_schema=False)
    async def camera(request: OfferRequest) -> dict[str, str]:
        feed = browser_feed(controls.feed)
        if feed is None:
            source = controls.feed.name
            raise HTTPException(409, f"the source is {source}; for a browser's camera type: cyclecast live browser --sink web")
        sdp = await peers.receive_camera(request.sdp, request.viewer, feed)
        return {"sdp": sdp, "type": "answer"}

    @app.get("/stream.mjpg", summary="The video as MJPEG", response_class=StreamingResponse)
    async def mjpeg(viewer: str = "", split: SplitQuery = None, follows_run: bool = False) -> Response:
        return MjpegResponse(viewers, Viewer(viewer[:64], "mjpeg", split, follows_run), options.viewer_bitrate)

    snapshots = Views()

    @app.get("/snapshot.png", summary="The newest frame", response_class=PngResponse)
    async def snapshot(split: SplitQuery = None) -> Response:
        if controls.newest is None:
            raise HTTPException(409, "there is no frame yet")
        snapshots.put(controls.newest)
        data = await snapshots.view(split).png()
        name = f"cyclecast-{datetime.now():%Y%m%d-%H%M%S}.png"
        return Response(data, media_type="image/png", headers={"Content-Disposition": f'attachment; filename="{name}"'})
