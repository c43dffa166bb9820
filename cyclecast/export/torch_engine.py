"""PyTorch as an engine, the reference for the others: it rebuilds the network that a frame model was exported of."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from cyclecast.errors import EngineError, EngineUnavailable, ModelError
from cyclecast.export.frame_graph import FrameGraph
from cyclecast.runtime.engine import Image, SynchronousEngine, check_frame, check_size, dense, spec_from_metadata
from cyclecast.runtime.machine import processor_name
from cyclecast.runtime.onnx_file import describe
from cyclecast.training.networks import IMAGE_GENERATORS, build_generator

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine(SynchronousEngine):
    """Runs `FrameGraph`, eager, with the weights in the file: models that `cyclecast export` wrote.

    bf16 (and fp16, of an fp32 model on a GPU) is autocast; by itself it computes in the precision that the model has.
    """

    name = "torch"

    def __init__(self, path: Path, device: str, precision: str) -> None:
        self.size, self.metadata = describe(path)
        spec = spec_from_metadata(path, self.metadata)
        if spec.architecture.get("generator") not in IMAGE_GENERATORS:
            raise EngineUnavailable(f"torch runs models that cyclecast exported; {path} does not say of what network it is")
        self._device = self._pick_device(device)
        self.device = processor_name() if self._device.type == "cpu" else torch.cuda.get_device_name(self._device)
        self.precision = spec.precision if precision == "auto" else precision
        if self.precision not in PRECISIONS or (spec.precision == "fp16" and self.precision != "fp16"):
            raise EngineUnavailable(f"torch computes this model in {spec.precision} or less, not in {precision}")
        self._autocast = self.precision != spec.precision
        stored = _weights(path)
        graph = FrameGraph(build_generator(**spec.architecture), spec.keep_colors, spec.precision == "fp16")
        if not any(name.endswith(".running_var") for name in stored):
            _without_batch_norms(graph)  # export has folded them into the convolutions
        _fill(graph, stored, path)
        if self._device.type == "cuda" and self.precision == "fp32":
            torch.backends.cudnn.allow_tf32 = False  # fp32 is the reference, to the last bit of it
        self._graph: FrameGraph | None = graph.to(self._device).eval().requires_grad_(False)

    def _pick_device(self, device: str) -> torch.device:
        kind, _, index = device.partition(":")
        if kind in ("auto", "cpu"):
            return torch.device("cpu")
        if kind not in ("gpu", "cuda") or not (index or "0").isdigit():
            raise EngineUnavailable(f"torch runs on cpu, gpu or cuda:N, not on {device!r}")
        if int(index or 0) >= torch.cuda.device_count():
            raise EngineUnavailable(f"torch finds no GPU {device!r} here")
        return torch.device("cuda", int(index or 0))

    def prepare(self, width: int, height: int) -> None:
        check_size(width, height, self.size)

    @torch.no_grad()
    def run(self, frame: Image) -> Image:
        check_frame(frame, self.size)
        if self._graph is None:
            raise EngineError("the engine is closed")
        sent = torch.from_numpy(dense(frame))[None].to(self._device)
        with torch.autocast(self._device.type, PRECISIONS[self.precision], enabled=self._autocast):
            styled: torch.Tensor = self._graph(sent)[0]
        return np.asarray(styled.cpu().numpy(), np.uint8)

    def close(self) -> None:
        self._graph = None


def _weights(path: Path) -> dict[str, torch.Tensor]:
    """The file's weights by the names that they have in the graph; a bias by that of its convolution, whatever it is called."""
    graph = onnx.load(str(path)).graph
    stored = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and len(node.input) == 3 and node.input[2] in stored:
            stored[node.input[1].removesuffix("weight") + "bias"] = stored[node.input[2]]
    return stored


def _without_batch_norms(network: nn.Module) -> None:
    """Takes them out, in place; the convolution before each gets a bias."""
    for module in list(network.modules()):
        for (_, before), (name, norm) in pairwise(list(module.named_children())):
            if isinstance(norm, nn.BatchNorm2d):
                last = [layer for layer in before.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)][-1]
                last.bias = nn.Parameter(torch.zeros(last.out_channels))
                setattr(module, name, nn.Identity())


def _fill(graph: FrameGraph, stored: dict[str, torch.Tensor], path: Path) -> None:
    """Colors are folded into the weights already. Biases of zeros are not stored, nor how many batches a norm has seen."""
    state = graph.state_dict()
    for key, value in state.items():
        if key in stored:
            state[key] = stored[key]
        elif key.endswith(".bias"):
            state[key] = torch.zeros_like(value)
        elif not key.endswith(".num_batches_tracked"):
            raise ModelError(f"{path}: has no {key}, which the network that it names has")
    try:
        graph.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{path}: its weights are not those of the network that it names ({error})") from error
