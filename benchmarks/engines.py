"""Times a generator on every engine of a device, and reports which share of the device's matrix rate each engine reaches.

Each row times one engine after a warm-up, from input frame to output frame, with the copies to a GPU and back. PyTorch runs in
its usual modes: eager in fp32, eager in half precision and, on a GPU, half precision as a CUDA graph. The matrix rate is that of
a large matrix product on the same device, in the same run and precision. The operations are those of the network's convolutions,
two per multiply-add. Engines that this machine lacks are named on stderr and skipped.

    python -m benchmarks.engines --device cuda:0 --generator resnet9 frame --sizes 256x256 512x512 1280x720
"""

from __future__ import annotations

import argparse
import importlib
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
from cyclecast.runtime.onnx_file import openvino_core, openvino_library
from cyclecast.training.networks import ImageGenerator, build_generator
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene

COUNTED_SIDE = 256  # height and width of the image whose operations are counted; they grow with the area
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
ENGINES = {  # device type -> (engine, device, precision of the file, precision of the engine)
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
    parser.add_argument("--frames", type=int, default=30, help="timed frames per row (default 30)")
    args = parser.parse_args()
    device = torch.device(args.device)
    rates = {
        dtype: round(matrix_rate(device, DTYPES[dtype]), 2)
        for dtype in (("fp32", "fp16") if is_gpu(device) else ("fp32", "bf16"))
    }
    rows = []
    for generator in args.generator:
        torch.manual_seed(0)
        network = build_generator(generator=generator)
        for size in args.sizes:
            width, height = map(int, size.split("x"))
            scene = Scene(width, height)
            frames = [scene.draw(index / 2) for index in range(4)]
            work = operations(network, width, height)
            for name, precision, model_ms, fps in time_engines(network, frames, device, args.frames):
                tera = work / model_ms.p50 / 1e9
                rows.append(
                    {
                        "generator": generator,
                        "size": size,
                        "engine": name,
                        "precision": precision,
                        "ms": {"p50": round(model_ms.p50, 2), "p95": round(model_ms.p95, 2)},
                        "fps": round(fps, 1),
                        "tera_operations_per_second": round(tera, 3),
                        "share_of_matrix_rate": round(tera / rates[precision], 3) if precision in rates else None,
                    }
                )
                print(json.dumps(rows[-1]), file=sys.stderr)
    device_name = torch.cuda.get_device_name(device) if is_gpu(device) else machine_name()
    print(json.dumps({"device": device_name, "tera_operations_per_second": rates, "rows": rows}))


def is_gpu(device: torch.device) -> bool:
    """Returns whether the device is a CUDA GPU."""
    return device.type == "cuda"


def time_engines(
    network: ImageGenerator, frames: list[Image], device: torch.device, count: int
) -> Iterator[tuple[str, str, Any, float]]:
    """Yields engine, precision, percentiles in milliseconds, and frames per second with two frames in flight."""
    for name, precision, run in torch_runs(network, frames[0], device):
        times_ms(run, frames, len(frames))
        times = times_ms(run, frames, count)
        yield name, precision, percentiles(times), 1000 * count / sum(times)
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for file_precision in ("fp32", "fp16"):
            files[file_precision] = Path(folder) / f"{file_precision}.onnx"
            export_onnx(
                TrainedGenerator(network, "random", "a2b", {}, 0, []),
                files[file_precision],
                precision=file_precision,
                check=False,
            )
        for name, place, file_precision, precision in ENGINES[device.type]:
            try:
                engine = cyclecast.open_engine(files[file_precision], name, place.format(device=str(device)), precision)
            except EngineUnavailable as error:
                print(f"skipped: {error}", file=sys.stderr)
                continue
            with closing(engine):
                times_ms(engine.run, frames, len(frames))
                model_ms = percentiles(times_ms(engine.run, frames, count))
                yield name, engine.precision, model_ms, frames_per_second(engine.submit, frames, count)


def torch_runs(
    network: ImageGenerator, frame: Image, device: torch.device
) -> Iterator[tuple[str, str, Callable[[Image], Image]]]:
    """Yields PyTorch's modes: name, precision and a function that runs one frame."""
    exact = FrameGraph(network).to(device).eval().requires_grad_(False)
    yield "torch eager", "fp32", eager(exact, device)
    if is_gpu(device):
        half = FrameGraph(network, half=True).to(device).eval().requires_grad_(False)
        yield "torch eager", "fp16", eager(half, device)
        yield "torch CUDA graph", "fp16", cuda_graph(half, frame, device)
    else:
        yield "torch eager", "bf16", eager(exact, device, torch.bfloat16)


def eager(graph: FrameGraph, device: torch.device, autocast: torch.dtype | None = None) -> Callable[[Image], Image]:
    """Returns a function that runs one frame and launches each operation separately."""

    @torch.inference_mode()
    def run(frame: Image) -> Image:
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            styled: Tensor = graph(torch.from_numpy(frame)[None].to(device))[0]
        return np.asarray(styled.cpu().numpy(), np.uint8)

    return run


def cuda_graph(graph: FrameGraph, frame: Image, device: torch.device) -> Callable[[Image], Image]:
    """Returns a function that runs one frame as a CUDA graph, with pinned host memory and fixed GPU memory."""
    with torch.inference_mode():
        host_input = torch.from_numpy(frame)[None].pin_memory()
        device_input = host_input.to(device)
        warm_up_stream = torch.cuda.Stream(device)
        warm_up_stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(warm_up_stream):
            for _ in range(3):  # libraries choose and load their kernels
                graph(device_input)
        torch.cuda.current_stream(device).wait_stream(warm_up_stream)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            device_output = graph(device_input)
        host_output = torch.empty(device_output.shape, dtype=torch.uint8, pin_memory=True)

    @torch.inference_mode()
    def run(frame: Image) -> Image:
        host_input.copy_(torch.from_numpy(frame)[None])
        device_input.copy_(host_input, non_blocking=True)
        captured.replay()
        host_output.copy_(device_output, non_blocking=True)
        torch.cuda.synchronize(device)
        return np.array(host_output[0].numpy())

    return run


def operations(network: ImageGenerator, width: int, height: int) -> int:
    """Operations of the network's convolutions for one frame, two per multiply-add."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, COUNTED_SIDE, COUNTED_SIDE))
    pixels = [-(-side // network.stride) * network.stride for side in (width, height)]  # as the graph pads them
    return int(counter.get_total_flops()) * pixels[0] * pixels[1] // COUNTED_SIDE**2


def matrix_rate(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Measures 10^12 operations per second of a large matrix product, the median of several."""
    side = 8192 if is_gpu(device) else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    rates: list[float] = []
    begin = time.perf_counter()
    while len(rates) < 6 or time.perf_counter() - begin < seconds:
        started = time.perf_counter()
        a @ b
        if is_gpu(device):
            torch.cuda.synchronize(device)
        rates.append(2 * side**3 / (time.perf_counter() - started) / 1e12)
    return statistics.median(rates[3:])


def int8_matrix_rate(threads: int | None = None, side: int = 2048, count: int = 10) -> float:
    """Measures 10^12 operations per second of a large matrix product in int8 on the CPU, in OpenVINO, the median of several."""
    openvino = openvino_library()
    op = importlib.import_module("openvino.opset13")
    random = np.random.default_rng(0)
    left = op.parameter([side, side], np.float32)
    low, high = op.constant(np.float32(-1.28)), op.constant(np.float32(1.27))
    right = op.convert(op.constant(random.integers(-127, 127, (side, side)).astype(np.int8)), np.float32)
    product = op.matmul(
        op.fake_quantize(left, low, high, low, high, 256), op.multiply(right, op.constant(np.float32(0.01))), False, True
    )
    network = openvino.Model([op.reduce_max(product, op.constant(np.array([0, 1])), False)], [left])
    settings = {"PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": "YES"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    request = openvino_core().compile_model(network, "CPU", settings).create_infer_request()
    values = random.uniform(-1, 1, (side, side)).astype(np.float32)
    seconds = []
    for _ in range(count + 2):  # the first two warm up
        request.infer([values])
        layers = {layer.node_type: layer for layer in request.profiling_info}
        assert "i8" in layers["FullyConnected"].exec_type.lower()  # not in a floating-point format
        seconds.append(layers["FullyConnected"].real_time.total_seconds())
    return float(2 * side**3 / statistics.median(seconds[2:]) / 1e12)


if __name__ == "__main__":
    main()
