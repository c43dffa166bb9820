"""PyTorch as an engine, the reference for the others: it rebuilds the network from which a frame model was exported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from cyclecast.errors import EngineError, EngineUnavailable, ModelError
from cyclecast.export.block_graph import BlockGraph, frame_graph
from cyclecast.export.frame_graph import FrameGraph
from cyclecast.runtime.engine import Image, SynchronousEngine, check_frame, check_size, dense, spec_from_metadata
from cyclecast.runtime.machine import processor_name
from cyclecast.runtime.model_file import ModelFile, as_model_file
from cyclecast.runtime.onnx_file import describe
from cyclecast.runtime.threads import ThreadsRefused
from cyclecast.training.machine import best_device
from cyclecast.training.networks import IMAGE_GENERATORS, build_generator

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine(SynchronousEngine):
    """Runs models that `cyclecast export` wrote: `frame_graph` in eager mode, with the weights in the file.

    Device "auto" is the best one that torch sees, as in `train`: CUDA, MPS, XPU or the CPU. Precision "auto" is the model's
    own; bf16, and fp16 for an fp32 model, use autocast.
    """

    name = "torch"

    def __init__(self, model: Path | ModelFile, device: str, precision: str) -> None:
        self._threads: int | None = None
        file = as_model_file(model)
        path = file.path
        with file.on_disk() as found:
            self.size, self.metadata = describe(found)
        spec = spec_from_metadata(path, self.metadata)
        if spec.precision == "int8":
            raise EngineUnavailable(f"{path}: an int8 model, which torch does not run; use openvino or onnxruntime")
        generator = spec.architecture.get("generator")
        if not isinstance(generator, str) or generator not in IMAGE_GENERATORS:
            raise EngineUnavailable(f"torch runs models that cyclecast exported; the metadata of {path} name no network")
        self._device = self._pick_device(device)
        self.device = self._device_name()
        self.precision = spec.precision if precision == "auto" else precision
        if self.precision not in PRECISIONS or (spec.precision == "fp16" and self.precision != "fp16"):
            raise EngineUnavailable(f"torch computes this model in {spec.precision} or less, not in {precision}")
        self._autocast = self.precision != spec.precision
        with file.on_disk() as found:
            stored = _read_weights(found)
        try:
            network = build_generator(**spec.architecture)
        except (TypeError, ValueError, KeyError, ArithmeticError, RuntimeError) as error:  # settings of another version
            raise ModelError(f"{path}: this version cannot build its network ({error}); use another engine") from error
        # Export wrote a `FrameGraph` of every network at first.
        build = FrameGraph if any(name.startswith("generator.") for name in stored) else frame_graph
        graph = build(network, spec.keep_colors, spec.precision == "fp16", spec.strength)
        if not any(name.endswith(".running_var") for name in stored):
            _remove_batch_norms(graph)  # export has folded them into the convolutions
        _load_weights(graph, stored, path)
        self._graph: FrameGraph | BlockGraph | None = graph.to(self._device).eval().requires_grad_(False)

    def _pick_device(self, device: str) -> torch.device:
        name, _, index = device.partition(":")
        if name == "auto":
            name = best_device()
        if name == "gpu":
            name = {"cpu": "cuda"}.get(best_device(), best_device())
        if name == "cpu" or (name == "mps" and torch.backends.mps.is_available()):
            return torch.device(name)
        if name not in ("cuda", "xpu") or not (index or "0").isdigit():
            raise EngineUnavailable(f"torch runs on cpu, gpu, cuda:N, mps or xpu here, not on {device!r}")
        count = torch.cuda.device_count() if name == "cuda" else torch.xpu.device_count()
        if int(index or 0) >= count:
            raise EngineUnavailable(f"torch finds no GPU {device!r} here")
        return torch.device(name, int(index or 0))

    def _device_name(self) -> str:
        if self._device.type == "cuda":
            return torch.cuda.get_device_name(self._device)
        if self._device.type == "xpu":
            return torch.xpu.get_device_name(self._device)
        return processor_name() if self._device.type == "cpu" else f"{processor_name()}, mps"

    def limit_threads(self, threads: int) -> None:
        if self._device.type != "cpu":
            raise ThreadsRefused(self.name, self.device)
        self._threads = threads

    def prepare(self, width: int, height: int) -> None:
        check_size(width, height, self.size)

    @torch.no_grad()
    def run(self, frame: Image) -> Image:
        check_frame(frame, self.size)
        if self._graph is None:
            raise EngineError("the engine is closed")
        sent = torch.from_numpy(dense(frame))[None].to(self._device)
        limit = torch_threads(self._threads)
        with limit, _disable_tf32(), torch.autocast(self._device.type, PRECISIONS[self.precision], enabled=self._autocast):
            styled: torch.Tensor = self._graph(sent)[0]
        return np.asarray(styled.cpu().numpy(), np.uint8)

    def close(self) -> None:
        self._graph = None


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Lets PyTorch compute with this many CPU threads inside; None: as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _disable_tf32() -> Iterator[None]:
    """Turns TF32 in convolutions off, because fp32 is the reference for the other engines, and then restores the setting."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads the file's weights by their names in the graph. A bias gets the name of its convolution."""
    graph = onnx.load(str(path)).graph
    stored = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and len(node.input) == 3 and node.input[2] in stored:
            stored[node.input[1].removesuffix("weight") + "bias"] = stored[node.input[2]]
    return stored


def _remove_batch_norms(network: nn.Module) -> None:
    """Removes batch norms, in place; the convolution before each gets a bias."""
    for module in list(network.modules()):
        for (_, before), (name, norm) in pairwise(list(module.named_children())):
            if isinstance(norm, nn.BatchNorm2d):
                last = [layer for layer in before.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)][-1]
                last.bias = nn.Parameter(torch.zeros(last.out_channels))
                setattr(module, name, nn.Identity())


def _load_weights(graph: FrameGraph | BlockGraph, stored: dict[str, torch.Tensor], path: Path) -> None:
    """Loads stored weights, into which export has folded the colors. Zero biases and norms' batch counts are not stored."""
    state = graph.state_dict()
    for key, value in state.items():
        if key in stored:
            state[key] = stored[key]
        elif key.endswith(".bias"):
            state[key] = torch.zeros_like(value)
        elif not key.endswith(".num_batches_tracked"):
            raise ModelError(f"{path}: has no {key}, which the network in its metadata needs")
    try:
        graph.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"{path}: its weights do not fit the network in its metadata ({' '.join(str(error).split())})"
        ) from error
