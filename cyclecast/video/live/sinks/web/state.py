"""The state of a live run as JSON, for /api/state."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cyclecast.video.live.capture.source_switcher import browser_feed
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sinks.web.viewers import Viewers


class Outage(BaseModel):
    """Why and for how long the source has been gone."""

    reason: str
    seconds: float


class Output(BaseModel):
    """A network output that works."""

    name: str = Field(description="Its address, without secrets.")
    is_connected: bool
    sent: int = Field(description="Frames that were handed to the network.")
    dropped: int = Field(description="Frames for which the network was too slow, or the server gone.")
    reconnects: int = Field(description="Times that a lost server came back.")


class RunState(BaseModel):
    """The state of a run. Rates and latencies are those of the last three seconds."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    source: str = Field(description="The source, without passwords.")
    accepts_camera: bool = Field(description="Whether the source is the camera of a browser.")
    outage: Outage | None = Field(description="null while the source delivers frames.")
    reconnects: int
    models: list[str] = Field(description="All styles of the run.")
    model: str = Field(description="The active style.")
    requested_model: str = Field(description="The style that was requested last.")
    work_height: int | None = Field(description="Height in pixels at which the model runs; null: that of the source.")
    strength: float
    mirror: bool
    split: float | None
    size: tuple[int, int] | None = Field(description="Width and height of the frames; null before the first.")
    fps: float
    latency_ms: float = Field(description="From the capture of a frame until a sink takes it.")
    model_ms: float
    captured: int
    shown: int
    skipped: int
    recording: str | None = Field(description="The file that is being recorded.")
    failures: list[str] = Field(description="A line for each sink that is missing or has failed.")
    outputs: list[Output] = Field(description="The network outputs.")
    viewers: int
    max_viewers: int
    watching: bool = Field(description="Whether the viewer of the request receives the video.")
    sending: bool = Field(description="Whether the camera of this viewer is the source.")
    web_app: str | None = Field(description="Address of a site that runs the styles on the viewer's machine.")


def run_state(controls: SessionControls, viewers: Viewers) -> dict[str, Any]:
    """Returns everything that the page shows, as `RunState` describes it, without what depends on the viewer."""
    switcher, meter, feed, newest = controls.switcher, controls.meter, controls.feed, controls.newest
    recent, outage = meter.recent(), feed.outage
    return {
        "source": feed.name,
        "accepts_camera": browser_feed(feed) is not None,
        "outage": None if outage is None else {"reason": outage[0], "seconds": round(outage[1], 1)},
        "reconnects": feed.reconnects,
        "models": switcher.models,
        "model": switcher.active_model,
        "requested_model": switcher.requested_model,
        "work_height": switcher.work_height,
        "strength": switcher.strength,
        "mirror": switcher.mirror,
        "split": switcher.split,
        "size": None if newest is None else [newest.styled.shape[1], newest.styled.shape[0]],
        "fps": recent.fps,
        "latency_ms": recent.latency_ms,
        "model_ms": recent.model_ms,
        "captured": feed.captured,
        "shown": meter.shown,
        "skipped": controls.skipped,
        "recording": None if controls.recording is None else controls.recording.name,
        "failures": controls.failures,
        "outputs": [asdict(output) for output in controls.outputs],
        "viewers": viewers.count("webrtc") + viewers.count("mjpeg"),
        "max_viewers": viewers.max_viewers,
    }
