"""A generator on every engine that a device has, and how much of the device's own matrix rate each makes use of.

Each row: one engine, frame in to frame out (copies to a GPU and back included), the warm-up left out. PyTorch is there as people
use it: eager in fp32, eager in half precision and, on a GPU, half precision with the work recorded as a CUDA graph. The rate
is what a large matrix product reaches on the same device in the same run and precision; the operations are those of the network's
convolutions, two for each multiplication with its addition. What this machine has not is named and left out.

    python -m benchmarks.engines --device cuda:0 --generator resnet9 frame --sizes 256x256 512x512 1280x720
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import cyclecast
from cyclecast.errors import EngineUnavailable
from cyclecast.export.checkpoints import TrainedGenerator
from cyclecast.export.frame_graph import FrameGraph
from cyclecast.export.onnx import export_onnx
from cyclecast.runtime.bench import frames_per_second, percentiles, times_ms
from cyclecast.runtime.machine import machine_name
from cyclecast.training.networks import ImageGenerator, build_generator
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene

COUNTED = 256  # pixels a side of the picture whose operations are counted; they grow with the area
KINDS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
ENGINES = {  # device -> engine, the device by its name, precision of the file, precision of the engine
    "cpu": [("openvino", "cpu", "fp32", "auto"), ("openvino", "cpu", "fp32", "fp32"), ("onnxruntime", "cpu", "fp32", "fp32")],
    "cuda": [
        ("onnxruntime", "{device}", "fp32", "fp32"),
        ("onnxruntime", "{device}", "fp16", "fp16"),
        ("tensorrt", "{device}", "fp16", "fp16"),
        ("tensorrt-rtx", "{device}", "fp16", "fp16"),
    ],
}


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--generator", nargs="+", default=["resnet9", "frame"])
    parser.add_argument("--sizes", nargs="+", default=["256x256", "512x512", "1280x720"], help="WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=30, help="timed, of each row")
    args = parser.parse_args()
    device = torch.device(args.device)
    rates = {kind: round(matrix_rate(device, KINDS[kind]), 2) for kind in (("fp32", "fp16") if gpu(device) else ("fp32", "bf16"))}
    rows = []
    for generator in args.generator:
        torch.manual_seed(0)
        network = build_generator(generator=generator)
        for size in args.sizes:
            width, height = map(int, size.split("x"))
            scene = Scene(width, height)
            frames = [scene.draw(index / 2) for index in range(4)]
            work = operations(network, width, height)
            for name, precision, took, fps in timed(network, frames, device, args.frames):
                tera = work / took.p50 / 1e9
                rows.append(
                    {
                        "generator": generator,
                        "size": size,
                        "engine": name,
                        "precision": precision,
                        "ms": {"p50": round(took.p50, 2), "p95": round(took.p95, 2)},
                        "fps": round(fps, 1),
                        "tera_operations_per_second": round(tera, 3),
                        "share_of_matrix_rate": round(tera / rates[precision], 3) if precision in rates else None,
                    }
                )
                print(json.dumps(rows[-1]), file=sys.stderr)
    named = torch.cuda.get_device_name(device) if gpu(device) else machine_name()
    print(json.dumps({"device": named, "tera_operations_per_second": rates, "rows": rows}))


def gpu(device: torch.device) -> bool:
    """Whether it is one."""
    return device.type == "cuda"


def timed(
    network: ImageGenerator, frames: list[Image], device: torch.device, count: int
) -> Iterator[tuple[str, str, Any, float]]:
    """Engine, precision, percentiles in milliseconds, frames per second with two under way."""
    for name, precision, run in torch_runs(network, frames[0], device):
        times_ms(run, frames, len(frames))
        times = times_ms(run, frames, count)
        yield name, precision, percentiles(times), 1000 * count / sum(times)
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for kind in ("fp32", "fp16"):
            files[kind] = Path(folder) / f"{kind}.onnx"
            export_onnx(TrainedGenerator(network, "random", "a2b", {}, 0, []), files[kind], precision=kind, check=False)
        for name, place, kind, precision in ENGINES[device.type]:
            try:
                engine = cyclecast.open_engine(files[kind], name, place.format(device=str(device)), precision)
            except EngineUnavailable as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            with closing(engine):
                times_ms(engine.run, frames, len(frames))
                took = percentiles(times_ms(engine.run, frames, count))
                yield name, engine.precision, took, frames_per_second(engine.submit, frames, count)


def torch_runs(
    network: ImageGenerator, frame: Image, device: torch.device
) -> Iterator[tuple[str, str, Callable[[Image], Image]]]:
    """PyTorch's ways: name, precision, what runs a frame."""
    exact = FrameGraph(network).to(device).eval().requires_grad_(False)
    yield "torch eager", "fp32", eager(exact, device)
    if gpu(device):
        half = FrameGraph(network, half=True).to(device).eval().requires_grad_(False)
        yield "torch eager", "fp16", eager(half, device)
        yield "torch CUDA graph", "fp16", recorded(half, frame, device)
    else:
        yield "torch eager", "bf16", eager(exact, device, torch.bfloat16)


def eager(graph: FrameGraph, device: torch.device, autocast: torch.dtype | None = None) -> Callable[[Image], Image]:
    """Every operation started by itself."""

    @torch.inference_mode()
    def run(frame: Image) -> Image:
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            styled: Tensor = graph(torch.from_numpy(frame)[None].to(device))[0]
        return np.asarray(styled.cpu().numpy(), np.uint8)

    return run


def recorded(graph: FrameGraph, frame: Image, device: torch.device) -> Callable[[Image], Image]:
    """All operations started by one call; pinned memory on the host, fixed memory on the GPU."""
    with torch.inference_mode():
        sent = torch.from_numpy(frame)[None].pin_memory()
        taken = sent.to(device)
        apart = torch.cuda.Stream(device)
        apart.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(apart):
            for _ in range(3):  # libraries choose and load their kernels
                graph(taken)
        torch.cuda.current_stream(device).wait_stream(apart)
        work = torch.cuda.CUDAGraph()
        with torch.cuda.graph(work):
            given = graph(taken)
        received = torch.empty(given.shape, dtype=torch.uint8, pin_memory=True)

    @torch.inference_mode()
    def run(frame: Image) -> Image:
        sent.copy_(torch.from_numpy(frame)[None])
        taken.copy_(sent, non_blocking=True)
        work.replay()
        received.copy_(given, non_blocking=True)
        torch.cuda.synchronize(device)
        return np.array(received[0].numpy())

    return run


def operations(network: ImageGenerator, width: int, height: int) -> int:
    """Of the network's convolutions on one frame: two for each multiplication with its addition."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, COUNTED, COUNTED))
    pixels = [-(-side // network.stride) * network.stride for side in (width, height)]  # as the graph pads them
    return int(counter.get_total_flops()) * pixels[0] * pixels[1] // COUNTED**2


def matrix_rate(device: torch.device, kind: torch.dtype, seconds: float = 1.0) -> float:
    """10^12 operations per second of a large product of matrices, the median of several."""
    side = 8192 if gpu(device) else 2048
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    rates: list[float] = []
    begin = time.perf_counter()
    while len(rates) < 6 or time.perf_counter() - begin < seconds:
        started = time.perf_counter()
        a @ b
        if gpu(device):
            torch.cuda.synchronize(device)
        rates.append(2 * side**3 / (time.perf_counter() - started) / 1e12)
    return statistics.median(rates[3:])


if __name__ == "__main__":
    main()
