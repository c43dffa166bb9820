"""The start screen of `cyclecast ui`: which source, which style, which outputs. Its routes are those of the page's server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cyclecast.errors import ConfigError
from cyclecast.video.cameras import VideoDevice, list_cameras
from cyclecast.video.files.images import read_image
from cyclecast.video.live.capture.source_switcher import SourceSwitcher
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sources.address import file_path, is_pipe, redacted_address, source_type
from cyclecast.video.live.styling.stream import BROWSER

THUMBNAIL_SIZE = 192, 108  # pixels: twice what the page shows
REFUSED_TYPES = ("gst",)  # a pipeline may write files


@dataclass(frozen=True)
class StartScreen:
    """What the start screen offers."""

    samples: Mapping[str, Path]
    """For each model that has one, an image of a photo beside its styled version."""
    list_cameras: Callable[[], list[VideoDevice]] = field(default=list_cameras)


class SourceRequest(BaseModel):
    """A camera, a file of the machine that runs cyclecast, an address, or "browser"."""

    source: str = Field(min_length=1, max_length=4096)


class OutputRequest(BaseModel):
    """An output of the run, and whether it is wanted."""

    output: Literal["virtual"]
    on: bool


def add_start_screen(app: FastAPI, controls: SessionControls, screen: StartScreen) -> None:
    """Adds GET /api/cameras and /thumbnail.jpg, and POST /api/source, /api/output and /api/quit."""
    switcher = source_switcher(controls)

    @app.get("/api/cameras", include_in_schema=False)
    async def cameras() -> dict[str, Any]:
        found = await asyncio.to_thread(screen.list_cameras)
        return {"cameras": [{"name": each.name, "source": each.source, "failure": each.failure} for each in found]}

    @app.post("/api/source", status_code=204, include_in_schema=False)
    async def source(request: SourceRequest) -> None:
        switcher.request(await asyncio.to_thread(checked_source, request.source.strip()))

    @app.post("/api/output", status_code=204, include_in_schema=False)
    async def output(request: OutputRequest) -> None:
        await asyncio.to_thread(controls.set_sink, request.output, request.on)

    @app.post("/api/quit", status_code=204, include_in_schema=False)
    async def quit() -> None:
        controls.quit()

    @app.get("/thumbnail.jpg", include_in_schema=False)
    async def thumbnail(model: str) -> Response:
        if model not in screen.samples:
            raise HTTPException(404, "no model of this name has a sample")
        data = await asyncio.to_thread(encode_thumbnail, screen.samples[model])
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def source_switcher(controls: SessionControls) -> SourceSwitcher:
    """Returns the feed of the run, whose source the start screen changes."""
    feed = controls.feed
    assert isinstance(feed, SourceSwitcher), "a start screen needs a run whose source can be changed"
    return feed


def start_state(controls: SessionControls, screen: StartScreen) -> dict[str, Any]:
    """Returns what the page shows about the start screen, as a part of /api/state."""
    switcher = source_switcher(controls)
    opening = switcher.opening
    return {
        "start": {
            "has_source": switcher.current is not None,
            "opening": None if opening is None else redacted_address(opening),
            "failure": switcher.failure,
            "virtual": controls.has_sink("virtual"),
            "samples": [name for name in controls.switcher.models if name in screen.samples],
        }
    }


def checked_source(address: str) -> str:
    """Returns the address with ~ replaced by the home folder. Raises ConfigError for what a page must not open."""
    if address == BROWSER:
        return address
    if address.startswith("~"):
        address = str(Path(address).expanduser())
    if source_type(address) in REFUSED_TYPES or address == "-" or is_pipe(address):
        raise ConfigError("this source is opened in the terminal only: cyclecast live")
    if source_type(address) == "file" and not Path(file_path(address)).is_file():
        raise ConfigError(f"{address}: no such file on this machine")
    return address


@lru_cache(maxsize=64)
def encode_thumbnail(sample: Path) -> bytes:
    """Returns the styled half of a sample, its right one, as a small JPEG. Raises InputError if it cannot be read."""
    image = read_image(sample)
    small = cv2.resize(image[:, image.shape[1] // 2 :], THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA)
    success, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert success
    return data.tobytes()
