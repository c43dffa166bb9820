"""Measures `--steady`: how much flicker it removes, what it blurs, and what it costs, against the same frames without it.

For each clip and model, over its first seconds, styled at its own size:

- warping_error: of the styled and of the smoothed clip, and their ratio; and of the source, which is the floor, because optical
  flow is never exact. --noise adds camera noise to the source (standard deviation in gray levels).
- changed: mean difference in gray levels; in uncovered areas, which optical flow cannot follow, the root mean square: ghosts
  would appear there.
- strokes: gradient energy of the smoothed frames over that of the styled ones, at full and at half size.
- still: the ratio of the errors if the same noisy camera records the first frame repeatedly.

Then milliseconds per frame at each size, alternating with the model.
Use clips from a tripod, from a moving camera, and with cuts.

    python -m benchmarks.steady CLIP CLIP --models monet winter --noise 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import cyclecast
from cyclecast.measure import first_frames
from cyclecast.training.evaluate.flicker import warping_error
from cyclecast.video.frame import Image
from cyclecast.video.live.styling.temporal_filter import TemporalFilter
from cyclecast.video.scene import Scene

WARM_UP = 4  # frames before the measurement: the filter needs previous frames
SIZES = ("1280x720", "640x360")


def add_noise(frames: Iterable[Image], noise: float) -> list[Image]:
    """Returns the frames with camera noise (standard deviation in gray levels)."""
    random = np.random.default_rng(0)
    if noise == 0:
        return list(frames)
    return [(frame + random.normal(0, noise, frame.shape) + 0.5).clip(0, 255).astype(np.uint8) for frame in frames]


def strokes(image: Image) -> float:
    """Returns the mean absolute Laplacian."""
    return float(np.abs(cv2.Laplacian(image, cv2.CV_32F)).mean())


def halve(image: Image) -> Image:
    """Returns the image at half its size."""
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def uncovered(sources: list[Image]) -> list[np.ndarray[Any, np.dtype[np.bool_]]]:
    """Returns masks (H, W) for each source but the first: where the previous one, warped along the flow, does not match."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grays = [np.asarray(cv2.cvtColor(source, cv2.COLOR_BGR2GRAY), np.uint8) for source in sources]
    height, width = grays[0].shape
    grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
    places = []
    for before, now in zip(grays, grays[1:], strict=False):
        there = flow.calc(now, before, None)  # type: ignore[call-overload]
        moved = cv2.remap(before, grid + there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        places.append(cv2.blur(cv2.absdiff(now, moved), (5, 5)) > 16)
    return places


def measure_clip(sources: list[Image], model: Callable[[Image], Image], strength: float, noise: float) -> dict[str, Any]:
    """Returns the figures of one clip and model."""
    steady, still = TemporalFilter(strength), TemporalFilter(strength)
    styled = [model(source) for source in sources]
    out = list(map(steady, sources, styled))
    error, left, floor = (warping_error(sources[WARM_UP:], clip[WARM_UP:]).mean for clip in (styled, out, sources))
    ghosts = [
        float(np.square(one[place].astype(np.float32) - other[place]).mean())
        for one, other, place in zip(out[1:], styled[1:], uncovered(sources), strict=True)
        if place.mean() > 0.002
    ]
    figures = {
        "warping_error": {
            "none": round(1e4 * error, 3),
            "steady": round(1e4 * left, 3),
            "source": round(1e4 * floor, 3),
        },  # in 1e-4
        "ratio": round(left / error, 3),
        "changed": round(statistics.mean(float(cv2.absdiff(a, b).mean()) for a, b in zip(out, styled, strict=True)), 2),
        "changed_where_uncovered": round(statistics.mean(ghosts) ** 0.5, 2) if ghosts else None,
        "strokes": round(statistics.mean(strokes(a) / strokes(b) for a, b in zip(out, styled, strict=True)), 3),
        "strokes_at_half": round(
            statistics.mean(strokes(halve(a)) / strokes(halve(b)) for a, b in zip(out, styled, strict=True)), 3
        ),
    }
    if noise:
        watched = add_noise([sources[0]] * 20, noise)
        styled = [model(source) for source in watched]
        out = list(map(still, watched, styled))
        ratio = warping_error(watched[WARM_UP:], out[WARM_UP:]).mean / warping_error(watched[WARM_UP:], styled[WARM_UP:]).mean
        figures["still_ratio"] = round(ratio, 3)
    return figures


def cost(model: Callable[[Image], Image], size: str, strength: float, turns: int) -> dict[str, Any]:
    """Returns the median milliseconds per frame in each round, of the model and of the filter after it."""
    scene = Scene(*map(int, size.split("x")))
    sources = add_noise((scene.draw(index / 25) for index in range(25)), 3)
    took: dict[str, list[float]] = {"model": [], "steady": []}
    for _ in range(turns + 1):
        steady, model_ms, steady_ms = TemporalFilter(strength), [], []
        for source in sources:
            began = time.perf_counter()
            styled = model(source)
            between = time.perf_counter()
            steady(source, styled)
            model_ms.append(1e3 * (between - began))
            steady_ms.append(1e3 * (time.perf_counter() - between))
        took["model"].append(round(statistics.median(model_ms), 2))
        took["steady"].append(round(statistics.median(steady_ms[1:]), 2))
    medians = {name: round(statistics.median(times[1:]), 2) for name, times in took.items()}  # the first turn warms up
    return {"size": size, **{f"{name}_ms": times[1:] for name, times in took.items()}, "median_ms": medians}


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--models", nargs="+", default=["monet"])
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation in gray levels, added to every frame")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--sizes", nargs="*", default=SIZES, help="WIDTHxHEIGHT to measure")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="threads of OpenCV")
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    clips: dict[str, dict[str, Any]] = {clip.name: {} for clip in args.clips}
    sizes = []
    for index, name in enumerate(args.models):
        with cyclecast.load(name) as model:
            for clip in args.clips:
                sources = add_noise(first_frames(clip, args.seconds), args.noise)
                clips[clip.name][name] = measure_clip(sources, model, args.strength, args.noise)
            if index == 0:
                sizes = [cost(model, size, args.strength, args.turns) for size in args.sizes]
    print(json.dumps({"strength": args.strength, "noise": args.noise, "threads": args.threads, "clips": clips, "sizes": sizes}))


if __name__ == "__main__":
    main()
