"""The control API of the page's server: style, strength, split view, mirror, recording and snapshots, as JSON.

A POST says which state is wanted, so sent twice it has the same effect as sent once, and answers with the state that it has set,
as a GET does. All of them go through the run's queue, as the keys of the window do.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from cyclecast.errors import ConfigError
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sinks.web.viewers import Viewers

T = TypeVar("T")
Share = Annotated[float, Field(ge=0, le=1)]


class RequestBody(BaseModel):
    """A request: a field that it does not have is an error, because it would be a typing mistake."""

    model_config = ConfigDict(extra="forbid")


class Failure(BaseModel):
    """What went wrong, in one line."""

    error: str


class StyleRequest(RequestBody):
    """The style to switch to."""

    style: Annotated[str, Field(max_length=4096)] | Annotated[int, Field(strict=True)] = Field(
        description="Its name, or its number among `styles`, from 1 on."
    )


class StyleState(BaseModel):
    """The styles of a run."""

    style: str = Field(description="The style of the frames now.")
    requested: str = Field(description="The style that was requested last: another one than `style` while it is being loaded.")
    styles: list[str] = Field(description="All styles of the run.")


class StrengthRequest(RequestBody):
    """The share of the styled frame in the output; the rest is the source."""

    strength: Share


class StrengthState(BaseModel):
    """The share of the styled frame in the output, from 0 (the source) to 1."""

    strength: float


class SplitRequest(RequestBody):
    """Where the source ends and the styled frame begins, as a share of the width; null: no split view."""

    split: Share | None
    viewer: str | None = Field(
        None, max_length=64, description="Moves only the slider of this viewer of the page. Without it: that of the run."
    )


class SplitState(BaseModel):
    """Where the source ends, as a share of the width; null: there is no split view."""

    split: float | None


class SwitchRequest(RequestBody):
    """Whether it must be on."""

    on: bool


class MirrorState(BaseModel):
    """Whether the source is flipped left to right."""

    on: bool


class RecordState(BaseModel):
    """Whether a recording runs that the API, a key or a button has started, and the name of its file."""

    on: bool
    file: str | None


class SnapshotState(BaseModel):
    """The name of the last snapshot's file, in the folder in which cyclecast runs; null: there is none."""

    file: str | None


class ModelRequest(BaseModel):
    """The name of the model to switch to."""

    name: str = Field(max_length=4096)


async def wait(future: Future[T]) -> T:
    """Waits for a request in the run's queue. An invalid value is a 422."""
    try:
        return await asyncio.wrap_future(future)
    except ConfigError as error:
        raise HTTPException(422, str(error)) from error


def control_router(controls: SessionControls, viewers: Viewers) -> APIRouter:
    """Returns the routes /api/..., each with GET and POST."""
    responses: dict[int | str, dict[str, Any]] = {
        403: {"model": Failure, "description": "The header Origin of a POST is not the page's address."},
        409: {"model": Failure, "description": "The run cannot do it now, such as write a file."},
    }
    api = APIRouter(prefix="/api", tags=["control"], responses=responses)
    add_styles(api, controls)
    add_picture(api, controls, viewers)
    add_files(api, controls)
    return api


def add_styles(api: APIRouter, controls: SessionControls) -> None:
    """Adds /style, and /model, its older name."""
    switcher, queue = controls.switcher, controls.queue

    @api.get("/style", summary="The active style, and all others")
    async def read_style() -> StyleState:
        return StyleState(style=switcher.active_model, requested=switcher.requested_model, styles=switcher.models)

    @api.post("/style", summary="Switch to another style")
    async def set_style(request: StyleRequest) -> StyleState:
        await wait(queue.set_style(request.style))
        return await read_style()

    @api.post("/model", status_code=204, deprecated=True, summary="Switch to another style; use /api/style")
    async def set_model(request: ModelRequest) -> None:
        await asyncio.wrap_future(queue.set_style(request.name))


def add_picture(api: APIRouter, controls: SessionControls, viewers: Viewers) -> None:
    """Adds /strength, /split and /mirror."""
    switcher, queue = controls.switcher, controls.queue

    @api.get("/strength", summary="The share of the styled frame")
    async def read_strength() -> StrengthState:
        return StrengthState(strength=switcher.strength)

    @api.post("/strength", summary="Set the share of the styled frame")
    async def set_strength(request: StrengthRequest) -> StrengthState:
        return StrengthState(strength=await wait(queue.set_strength(request.strength)))

    @api.get("/split", summary="The split view of the run")
    async def read_split() -> SplitState:
        return SplitState(split=switcher.split)

    @api.post("/split", summary="Set the split view", responses={404: {"model": Failure, "description": "No such viewer."}})
    async def set_split(request: SplitRequest) -> SplitState:
        if request.viewer is None:
            return SplitState(split=await wait(queue.set_split(request.split)))
        if not viewers.set_split(request.viewer, request.split):
            raise HTTPException(404, "no viewer with this id is watching")
        return SplitState(split=request.split)

    @api.get("/mirror", summary="Whether the source is mirrored")
    async def read_mirror() -> MirrorState:
        return MirrorState(on=switcher.mirror)

    @api.post("/mirror", summary="Mirror the source")
    async def set_mirror(request: SwitchRequest) -> MirrorState:
        return MirrorState(on=await wait(queue.set_mirror(request.on)))


def add_files(api: APIRouter, controls: SessionControls) -> None:
    """Adds /record and /snapshot."""

    @api.get("/record", summary="Whether a recording runs")
    async def read_record() -> RecordState:
        path = controls.recording
        return RecordState(on=path is not None, file=None if path is None else path.name)

    @api.post("/record", summary="Start or stop a recording")
    async def set_record(request: SwitchRequest) -> RecordState:
        path = await wait(controls.queue.set_recording(request.on))
        return RecordState(on=path is not None, file=None if path is None else path.name)

    @api.get("/snapshot", summary="The last snapshot")
    async def read_snapshot() -> SnapshotState:
        path = controls.last_snapshot
        return SnapshotState(file=None if path is None else path.name)

    @api.post("/snapshot", summary="Save the newest frame as a PNG; the same frame again is the same file")
    async def save_snapshot() -> SnapshotState:
        return SnapshotState(file=(await wait(controls.queue.save_snapshot())).name)
