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

    python -m benchmarks.steady CLIP CLIP --models monet pencil --noise 3
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


def stroke_energy(image: Image) -> float:
    """Returns the mean absolute Laplacian."""
    return float(np.abs(cv2.Laplacian(image, cv2.CV_32F)).mean())


def half_size(image: Image) -> Image:
    """Returns the image at half its size."""
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def find_uncovered(sources: list[Image]) -> list[np.ndarray[Any, np.dtype[np.bool_]]]:
    """Returns masks (H, W) for each source but the first: where the previous one, warped along the flow, does not match."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grays = [np.asarray(cv2.cvtColor(source, cv2.COLOR_BGR2GRAY), np.uint8) for source in sources]
    height, width = grays[0].shape
    grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
    masks = []
    for before, now in zip(grays, grays[1:], strict=False):
        positions = grid + flow.calc(now, before, None)  # type: ignore[call-overload]
        border = cv2.BORDER_REPLICATE
        warped = cv2.remap(before, positions, None, cv2.INTER_LINEAR, borderMode=border)  # type: ignore[call-overload]
        masks.append(cv2.blur(cv2.absdiff(now, warped), (5, 5)) > 16)
    return masks


def measure_clip(sources: list[Image], model: Callable[[Image], Image], strength: float, noise: float) -> dict[str, Any]:
    """Returns the figures of one clip and model."""
    smooth, smooth_still = TemporalFilter(strength), TemporalFilter(strength)
    styled = [model(source) for source in sources]
    smoothed = list(map(smooth, sources, styled))
    error, remaining, floor = (warping_error(sources[WARM_UP:], clip[WARM_UP:]).mean for clip in (styled, smoothed, sources))
    ghosts = [
        float(np.square(one[mask].astype(np.float32) - other[mask]).mean())
        for one, other, mask in zip(smoothed[1:], styled[1:], find_uncovered(sources), strict=True)
        if mask.mean() > 0.002
    ]
    figures = {
        "warping_error": {
            "none": round(1e4 * error, 3),
            "steady": round(1e4 * remaining, 3),
            "source": round(1e4 * floor, 3),
        },  # in 1e-4
        "ratio": round(remaining / error, 3),
        "changed": round(statistics.mean(float(cv2.absdiff(a, b).mean()) for a, b in zip(smoothed, styled, strict=True)), 2),
        "changed_where_uncovered": round(statistics.mean(ghosts) ** 0.5, 2) if ghosts else None,
        "strokes": round(statistics.mean(stroke_energy(a) / stroke_energy(b) for a, b in zip(smoothed, styled, strict=True)), 3),
        "strokes_at_half": round(
            statistics.mean(
                stroke_energy(half_size(a)) / stroke_energy(half_size(b)) for a, b in zip(smoothed, styled, strict=True)
            ),
            3,
        ),
    }
    if noise:
        stills = add_noise([sources[0]] * 20, noise)
        styled = [model(source) for source in stills]
        smoothed = list(map(smooth_still, stills, styled))
        before, after = (warping_error(stills[WARM_UP:], clip[WARM_UP:]).mean for clip in (styled, smoothed))
        figures["still_ratio"] = round(after / before, 3)
    return figures


def measure_cost(model: Callable[[Image], Image], size: str, strength: float, turns: int) -> dict[str, Any]:
    """Returns the median milliseconds per frame in each round, of the model and of the filter after it."""
    scene = Scene(*map(int, size.split("x")))
    sources = add_noise((scene.draw(index / 25) for index in range(25)), 3)
    times_ms: dict[str, list[float]] = {"model": [], "steady": []}
    for _ in range(turns + 1):
        smooth, model_ms, smooth_ms = TemporalFilter(strength), [], []
        for source in sources:
            start = time.perf_counter()
            styled = model(source)
            model_end = time.perf_counter()
            smooth(source, styled)
            model_ms.append(1e3 * (model_end - start))
            smooth_ms.append(1e3 * (time.perf_counter() - model_end))
        times_ms["model"].append(round(statistics.median(model_ms), 2))
        times_ms["steady"].append(round(statistics.median(smooth_ms[1:]), 2))
    medians = {name: round(statistics.median(times[1:]), 2) for name, times in times_ms.items()}  # the first turn warms up
    return {"size": size, **{f"{name}_ms": times[1:] for name, times in times_ms.items()}, "median_ms": medians}


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, help="clips to smooth; without clips, only the cost is measured")
    parser.add_argument("--models", nargs="+", default=["monet"], help="models (default monet); the cost is that of the first")
    parser.add_argument("--strength", type=float, default=1.0, help="of --steady, 0 to 1 (default 1)")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation of added noise, gray levels (default 0)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of the measured part of each clip (default 1.5)")
    parser.add_argument("--sizes", nargs="*", default=SIZES, help="frame sizes to time, in pixels (default 1280x720 640x360)")
    parser.add_argument("--turns", type=int, default=5, help="rounds of the timing after the warm-up (default 5)")
    parser.add_argument("--threads", type=int, default=2, help="threads of OpenCV (default 2)")
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
                sizes = [measure_cost(model, size, args.strength, args.turns) for size in args.sizes]
    print(json.dumps({"strength": args.strength, "noise": args.noise, "threads": args.threads, "clips": clips, "sizes": sizes}))


if __name__ == "__main__":
    main()
