"""What the page's server answers: the page itself, its pictures, its buttons, and what others may want to know of the run."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import cv2
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from cyclecast.errors import CyclecastError
from cyclecast.video.live.capture.push_feed import PushFeed
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sinks.web.metrics import CONTENT_TYPE, Metrics
from cyclecast.video.live.sinks.web.mjpeg import Mjpeg
from cyclecast.video.live.sinks.web.viewers import TooMany, Viewer, Viewers
from cyclecast.video.live.sinks.web.webrtc import BadOffer, Peers
from cyclecast.video.live.styling.styled_frame import StyledFrame

PAGE = Path(__file__).with_name("page.html")

Split = float | None
"""As `StyledFrame.split`."""


class Offer(BaseModel):
    sdp: str = Field(max_length=60_000)
    type: Literal["offer"]
    viewer: str = Field("", max_length=64)
    split: Split = Field(None, ge=0, le=1)


class Choice(BaseModel):
    name: str = Field(max_length=4096)


class Switch(BaseModel):
    on: bool


class Slider(BaseModel):
    viewer: str = Field(max_length=64)
    split: Split = Field(None, ge=0, le=1)


def build_app(controls: SessionControls, viewers: Viewers, peers: Peers) -> FastAPI:
    """The app, for the event loop that `viewers` and `peers` belong to."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    metrics = Metrics(controls, viewers)
    page = PAGE.read_text(encoding="utf-8")
    policy = {"Content-Security-Policy": content_policy(page)}

    @app.get("/")
    async def index() -> Response:
        return HTMLResponse(page, headers=policy)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/api/state")
    async def state(viewer: str = "") -> dict[str, Any]:
        return describe(controls, viewers) | {"watching": viewers.has(viewer), "sending": bool(viewer) and peers.sender == viewer}

    @app.post("/api/model", status_code=204)
    async def model(choice: Choice) -> None:
        controls.switcher.request_model(choice.name)

    @app.post("/api/mirror", status_code=204)
    async def mirror(switch: Switch) -> None:
        controls.switcher.mirror = switch.on

    @app.post("/api/record", status_code=204)
    async def record(switch: Switch) -> None:
        await asyncio.get_running_loop().run_in_executor(None, controls.set_recording, switch.on)

    @app.post("/api/split", status_code=204)
    async def split(slider: Slider) -> None:
        if not viewers.move(slider.viewer, slider.split):
            raise HTTPException(404, "no viewer of that id is watching")

    @app.post("/offer")
    async def watch(offer: Offer) -> dict[str, str]:
        return answered(await peers.show(offer.sdp, Viewer(offer.viewer, "webrtc", offer.split)))

    @app.post("/camera")
    async def camera(offer: Offer) -> dict[str, str]:
        if not isinstance(controls.feed, PushFeed):
            raise HTTPException(
                409, f"the source is {controls.feed.name}; cyclecast live browser --sink web takes a browser's camera"
            )
        return answered(await peers.receive(offer.sdp, offer.viewer, controls.feed))

    @app.get("/stream.mjpg")
    async def stream(viewer: str = "", split: float | None = None) -> Response:
        return Mjpeg(viewers, Viewer(viewer[:64], "mjpeg", within(split)))

    @app.get("/snapshot.png")
    async def snapshot(split: float | None = None) -> Response:
        newest = controls.newest
        if newest is None:
            raise HTTPException(409, "there is no picture yet")
        data = await asyncio.get_running_loop().run_in_executor(None, png, replace(newest, split=within(split)))
        name = f"cyclecast-{datetime.now():%Y%m%d-%H%M%S}.png"
        return Response(data, media_type="image/png", headers={"Content-Disposition": f'attachment; filename="{name}"'})

    add_errors(app, controls)
    return app


def describe(controls: SessionControls, viewers: Viewers) -> dict[str, Any]:
    """The run as the page shows it."""
    switcher, meter, feed, newest = controls.switcher, controls.meter, controls.feed, controls.newest
    now, gone = meter.now(), feed.gone
    return {
        "source": feed.name,
        "browser": isinstance(feed, PushFeed),
        "models": switcher.models,
        "model": switcher.active_model,
        "wanted": switcher.requested_model,
        "mirror": switcher.mirror,
        "split": switcher.split,
        "size": None if newest is None else [newest.styled.shape[1], newest.styled.shape[0]],
        "work_height": switcher.work_height,
        "fps": now.fps,
        "latency_ms": now.latency_ms,
        "model_ms": now.model_ms,
        "captured": feed.captured,
        "shown": meter.shown,
        "skipped": controls.skipped,
        "reconnects": feed.reconnects,
        "gone": None if gone is None else {"reason": gone[0], "seconds": round(gone[1], 1)},
        "recording": None if controls.recording is None else controls.recording.name,
        "viewers": viewers.count("webrtc") + viewers.count("mjpeg"),
    }


def answered(sdp: str) -> dict[str, str]:
    return {"sdp": sdp, "type": "answer"}


def within(split: float | None) -> Split:
    """A split out of an address; HTTPException if it is no share of the width."""
    if split is not None and not 0 <= split <= 1:
        raise HTTPException(422, "split is a share of the width, 0 to 1")
    return split


def png(shown: StyledFrame) -> bytes:
    """The picture, whole."""
    done, data = cv2.imencode(".png", shown.image)
    assert done
    return data.tobytes()


def content_policy(page: str) -> str:
    """Content-Security-Policy: the page's own script and style by their hashes, and nothing from anywhere else."""
    hashes = {
        tag: " ".join(f"'sha256-{digest(text)}'" for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL))
        for tag in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def add_errors(app: FastAPI, controls: SessionControls) -> None:
    """Every error is JSON in one line; what happened inside stays inside."""

    def told(status: int, error: str) -> JSONResponse:
        return JSONResponse({"error": " ".join(error.split())}, status)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return told(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return told(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")

    @app.exception_handler(CyclecastError)
    async def failed(request: Request, error: CyclecastError) -> Response:
        return told(409, str(error))

    @app.exception_handler(BadOffer)
    async def bad_offer(request: Request, error: BadOffer) -> Response:
        return told(400, f"the offer cannot be answered: {error}")

    @app.exception_handler(TooMany)
    async def too_many(request: Request, error: TooMany) -> Response:
        return told(503, str(error))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        controls.report(f"web page: {request.url.path} failed: {type(error).__name__}: {error}")
        return told(500, "this failed; what cyclecast printed says more")
