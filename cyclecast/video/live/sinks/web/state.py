"""The state of a live run as JSON, for /api/state."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cyclecast.video.live.capture.push_feed import PushFeed
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sinks.web.viewers import MAX_VIEWERS, Viewers


def run_state(controls: SessionControls, viewers: Viewers) -> dict[str, Any]:
    """Returns everything that the page shows. Rates and latencies are those of the last three seconds."""
    switcher, meter, feed, newest = controls.switcher, controls.meter, controls.feed, controls.newest
    recent, outage = meter.recent(), feed.outage
    return {
        "source": feed.name,
        "accepts_camera": isinstance(feed, PushFeed),
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
        "max_viewers": MAX_VIEWERS,
    }
