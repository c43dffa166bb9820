"""Frames of a video through the frame function: the one place where `convert` and the workers of a cluster do this."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from cyclecast.future import Deferred, Future
from cyclecast.video.convert import pipeline
from cyclecast.video.frame import Frame, FrameFunction
from cyclecast.video.resize import submit_frame


def style_frames(
    frames: Iterable[Frame],
    function: FrameFunction,
    work_height: int | None,
    strength: float,
    write: Callable[[Frame], None],
    on_frame: Callable[[int], None] | None = None,
) -> pipeline.StageSeconds:
    """Runs each frame through `function` and hands it to `write`, in order; reading, styling and writing overlap.

    work_height: height in pixels at which `function` runs; None: that of the frames. strength: share of the styled frame in
    the output, from 0 to 1. on_frame: called with the number of frames written so far. Raises what the source, `function` or
    `write` raises first.
    """

    def submit(frame: Frame) -> Future[Frame]:
        future = submit_frame(frame.image, function, work_height, strength)
        return Deferred(lambda: replace(frame, image=future.result()))

    return pipeline.run(iter(frames), submit, write, on_frame)
