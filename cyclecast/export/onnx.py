"""Exports a generator as one ONNX file with its ModelSpec."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import onnx
import torch

from cyclecast._version import __version__
from cyclecast.errors import ConfigError, ModelError
from cyclecast.export.agreement import SIZES, Agreement, check_finite, default_precision
from cyclecast.export.block_graph import BlockGraph, frame_graph
from cyclecast.export.checkpoints import TrainedGenerator
from cyclecast.export.frame_graph import FrameGraph, LatentGraph
from cyclecast.export.save import save_model
from cyclecast.export.verify import random_latents, verify, verify_latent
from cyclecast.files import atomic_write, check_output
from cyclecast.runtime.engines import open_engine
from cyclecast.spec import METADATA_KEY, SMALLEST_FRAME, ModelSpec
from cyclecast.training.networks import LatentGenerator

OPSETS = (18, 19, 20)  # supported by TensorRT 10.3 to 11, ONNX Runtime and OpenVINO
PRECISIONS = ("fp32", "fp16")


def export_onnx(
    trained: TrainedGenerator,
    output: Path,
    *,
    size: tuple[int, int] | None = None,
    precision: str = "fp32",
    opset: int = 18,
    keep_colors: float = 0.0,
    strength: float = 1.0,
    check: bool = True,
    overwrite: bool = False,
    on_message: Callable[[str], None] | None = None,
) -> list[Agreement]:
    """Writes the generator to `output` as one ONNX file, atomically. Returns the comparisons with PyTorch.

    size: fixes the frame size to (width, height), pixels; None: any size. precision: fp32, or fp16 for GPUs: half the file
    size, and arithmetic in fp16 except for the norms. keep_colors: share of the input's colors in the output, from 0 to 1
    (`with_colors_of`). strength: share of the styled frame in the output, from 0 to 1; the rest is the input. check: compare
    ONNX Runtime with PyTorch on the checkpoint's images (for a latent model: on noise), and keep the file only if they agree
    within a gray level (fp16: 45 dB) and have no NaN. on_message: called with one line if the engine that `auto` chooses here
    needs a warning.

    Raises ConfigError for an opset or size that no engine supports and for a frame model's options on a latent model,
    OutputError if the file exists or cannot be written, and ModelError if the check fails.
    """
    latent = isinstance(trained.network, LatentGenerator)
    if latent and (size is not None or keep_colors or strength != 1):
        options = "size, keep_colors and strength"
        raise ConfigError(f"{trained.recipe} trains a latent model, which has no input frame: leave {options} out")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if opset not in OPSETS:
        raise ConfigError(f"opset must be one of {', '.join(map(str, OPSETS))}, got {opset}")
    if size is not None and min(size) < SMALLEST_FRAME:
        raise ConfigError(f"frames start at {SMALLEST_FRAME}x{SMALLEST_FRAME}, got {size[0]}x{size[1]}")
    if not 0 <= keep_colors <= 1:
        raise ConfigError(f"keep_colors must be from 0 to 1, got {keep_colors}")
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength must be from 0 to 1, got {strength}")
    check_output(output, overwrite)
    spec = ModelSpec(
        name=output.stem,
        model_type="latent" if latent else "frame",
        recipe=trained.recipe,
        direction=trained.direction,
        architecture=trained.architecture,
        precision=precision,
        size=size,
        steps=trained.steps,
        keep_colors=keep_colors,
        strength=strength,
        version=__version__,
    )
    if isinstance(trained.network, LatentGenerator):
        model = _trace_latent(trained.network, precision == "fp16", opset)
    else:
        model = _trace_frame(frame_graph(trained.network, keep_colors, precision == "fp16", strength), size, opset)
    _tidy(model, spec)
    onnx.checker.check_model(model, full_check=True)
    with atomic_write(output, overwrite) as partial:
        save_model(model, partial)
        if not check:
            return []
        agreements = _verify(partial, trained, spec)
        if not latent and trained.frames:
            spec, message = default_precision(partial, spec, trained.frames[:1])
            if message:
                (on_message or (lambda line: None))(f"{output}: {message}")
            if spec.auto_precision != "auto":
                model.metadata_props[0].value = spec.to_json()
                save_model(model, partial)
        return agreements


def _verify(path: Path, trained: TrainedGenerator, spec: ModelSpec) -> list[Agreement]:
    precision = spec.precision
    if isinstance(trained.network, LatentGenerator):
        check_finite(path, list(random_latents(trained.network).numpy()), [None], precision)
        report = [verify_latent(path, trained.network, precision)]
    else:
        with closing(open_engine(path, "onnxruntime", "cpu", precision)) as engine:
            check_finite(path, trained.frames, [engine.size] if engine.size else SIZES, precision)
            report = verify(engine, trained.network, trained.frames, keep_colors=spec.keep_colors, strength=spec.strength)
    worst = max(report, key=lambda agreement: agreement.max_abs)
    if not all(agreement.passed for agreement in report):
        at = f"{worst.size[0]}x{worst.size[1]}"
        raise ModelError(f"the graph differs from PyTorch by {worst.max_abs} gray levels at {at}, so it was not kept")
    return report


def _trace_frame(graph: FrameGraph | BlockGraph, size: tuple[int, int] | None, opset: int) -> onnx.ModelProto:
    width, height = size or (96, 64)
    any_size = {
        1: torch.export.Dim("height", min=SMALLEST_FRAME, max=16384),
        2: torch.export.Dim("width", min=SMALLEST_FRAME, max=16384),
    }
    example = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    return _trace(graph, example, "frame", "styled", None if size else any_size, opset)


def _trace_latent(generator: LatentGenerator, half: bool, opset: int) -> onnx.ModelProto:
    any_count = {0: torch.export.Dim("count", min=1, max=65536)}
    return _trace(LatentGraph(generator, half), torch.zeros(2, generator.latent), "latent", "image", any_count, opset)


def _trace(
    graph: FrameGraph | BlockGraph | LatentGraph,
    example: torch.Tensor,
    input_name: str,
    output_name: str,
    free: dict[int, Any] | None,
    opset: int,
) -> onnx.ModelProto:
    with _silence_exporter():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[input_name],
            output_names=[output_name],
            dynamic_shapes=None if free is None else {input_name: free},
            external_data=False,
            verbose=False,
        )
    assert program is not None  # torch promises it for dynamo=True
    model = program.model_proto  # built anew at each access
    for port in (model.graph.input[0], model.graph.output[0]):
        for axis, dimension in (free or {}).items():
            port.type.tensor_type.shape.dim[axis].dim_param = dimension.__name__
    return model


def _tidy(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Removes the exporter's traces, and adds the ModelSpec."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del graph.value_info[:]
    graph.name = spec.name
    model.producer_name, model.producer_version = "cyclecast", spec.version
    model.metadata_props.add(key=METADATA_KEY, value=spec.to_json())


@contextlib.contextmanager
def _silence_exporter() -> Iterator[None]:
    """Silences the exporter's warnings (no torchvision, its own deprecations), on which no user can act."""
    logger = logging.getLogger("torch.onnx")
    before: Any = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
