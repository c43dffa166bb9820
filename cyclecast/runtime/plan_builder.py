"""Builds TensorRT plans from ONNX models, and caches those that an engine needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclecast.errors import ConfigError, EngineError, ModelError
from cyclecast.files import atomic_write
from cyclecast.runtime.cuda import Gpu
from cyclecast.runtime.engine import OnBuild, check_shape, check_size, spec_from_metadata
from cyclecast.runtime.machine import RTX_TARGETS, cache_folder, shrink_cache
from cyclecast.runtime.onnx_file import describe, metadata_of, openvino_core, read_model
from cyclecast.runtime.plan import PlanFacts, Size, engine_of_plan
from cyclecast.runtime.tensorrt_library import import_tensorrt, progress_monitor, quiet_logger

LATENT_BATCHES = (1, 16, 64)  # latents per run of a latent model's plan: minimum, optimum, maximum


def build_plan(
    model: Path,
    engine: str,
    size: Size | None = None,
    *,
    between: tuple[Size, Size] | None = None,
    sm: Sequence[int] = (),
    gpu: int = 0,
    workspace_mib: int | None = None,
    on_build: OnBuild | None = None,
) -> tuple[bytes, PlanFacts]:
    """Builds a TensorRT plan of an ONNX frame model or latent model. Returns the plan and its facts.

    The build is strongly typed: an fp16 plan needs an fp16 model.
    size: (width, height) of the frames; None: the model's fixed size. between: the minimum and maximum frame size that the
    plan accepts besides `size`; None: `size` alone, which is fastest. A latent model has no frame size; its plan accepts 1 to
    64 latents. sm: compute capabilities to build for. TensorRT builds only for the GPU that it runs on, of index `gpu`;
    TensorRT for RTX builds for any of `RTX_TARGETS`, without a GPU. on_build: see `OnBuild`; an exception from it ends the
    build.

    Raises EngineUnavailable (library or GPU missing), ModelError (not a frame model, or operators that TensorRT lacks),
    ConfigError (sizes or compute capabilities that do not fit), and EngineError (the model changes the frame's size, or the
    build failed).
    """
    trt = import_tensorrt(engine)
    if engine_of_plan(model) is not None:
        raise ModelError(f"{model}: already a plan; expected an ONNX frame model")
    graph = read_model(openvino_core(), model)
    metadata = metadata_of(graph)
    spec = spec_from_metadata(model, metadata)
    latent = spec.model_type == "latent"
    if latent and (size or between):
        raise ConfigError(f"{model}: a latent model has no frame size; leave the size out")
    sizes = None if latent else _check_sizes(size, between, describe(model, graph)[0])
    log = quiet_logger(trt)
    sm = tuple(dict.fromkeys(sm))
    targets = _targets(engine, sm, gpu)
    builder = trt.Builder(log)
    network, parser = _parse(trt, builder, log, model)
    input_tensor, output_tensor = network.get_input(0), network.get_output(0)
    if sizes is None:
        shapes: list[tuple[int, ...]] = [(rows, *tuple(input_tensor.shape)[1:]) for rows in LATENT_BATCHES]
        sizes = ((output_tensor.shape[2], output_tensor.shape[1]),) * 3
    else:
        shapes = [(1, height, width, 3) for width, height in sizes]
        _check_output_sizes(input_tensor, output_tensor, sizes)
    config = _builder_config(trt, builder, input_tensor, shapes, sm, workspace_mib)
    facts = PlanFacts(
        engine=engine,
        version=str(trt.__version__),
        sm=targets,
        sizes=sizes,
        precision=_precision(network),
        input_name=input_tensor.name,
        output_name=output_tensor.name,
        model_hash=hashlib.sha256(model.read_bytes()).hexdigest(),
        metadata=metadata,
    )
    if metadata and facts.precision != spec.precision:
        raise ModelError(f"{model}: its metadata say {spec.precision}, its convolutions are {facts.precision}; export it again")
    network.name = facts.to_json()
    if on_build is not None:
        on_build(0.0)
    monitor = progress_monitor(trt, on_build)
    config.progress_monitor = monitor
    with _TimingCache(config, facts):
        plan = builder.build_serialized_network(network, config)
    del parser  # it owns the weights until here
    if monitor.error is not None:
        raise monitor.error
    if plan is None:
        raise EngineError(f"{engine} cannot build {model} of {_sizes_text(sizes)}: {log.last or 'no reason given'}")
    if engine == "tensorrt":  # TensorRT for RTX compiles at run time, so its plans list no kernels
        other = convolutions_not_in(facts.precision, _layers_of_plan(trt, log, plan))
        if other:
            raise EngineError(f"{engine} built {', '.join(other)} of {model} in another precision than {facts.precision}")
    if on_build is not None:
        on_build(1.0)
    return bytes(plan), facts


def cached_plan(model: Path, engine: str, size: Size, gpu: Gpu, on_build: OnBuild | None = None) -> Path:
    """Returns the cached plan of an ONNX model for this size and this GPU; builds it if it is missing.

    The file's name holds everything that a plan depends on: the library and its version, the compute capability, the size,
    and a hash of the model. Raises what `build_plan` raises, and EngineError if the cache folder cannot be written.
    """
    version = str(import_tensorrt(engine).__version__)
    content = hashlib.sha256(model.read_bytes()).hexdigest()[:24]
    folder = cache_folder("plans")
    if folder is None:
        raise EngineError("the cache folder for plans cannot be written; set XDG_CACHE_HOME to a folder that can")
    path = folder / f"{engine}-{version}-sm{gpu.capability}-{size[0]}x{size[1]}-{content}.plan"
    if not path.is_file():
        plan, _ = build_plan(model, engine, size, gpu=gpu.index, on_build=on_build)
        with atomic_write(path, overwrite=True) as partial:
            partial.write_bytes(plan)
        shrink_cache(folder)
    return path


def _targets(engine: str, sm: Sequence[int], gpu: int) -> tuple[int, ...]:
    """Returns the requested compute capabilities, or that of the GPU of this index, which then runs the build."""
    unknown = [capability for capability in sm if capability not in RTX_TARGETS]
    if sm and engine != "tensorrt-rtx":
        raise ConfigError(f"{engine} builds only for the GPU that it runs on; leave --sm out, or use --engine tensorrt-rtx")
    if unknown:
        raise ConfigError(f"{engine} builds for SM {', '.join(map(str, RTX_TARGETS))}, not for {unknown[0]}")
    if sm:
        return tuple(sm)
    own = Gpu(gpu)
    own.use()
    return (own.capability,)


def _parse(trt: Any, builder: Any, log: Any, model: Path) -> tuple[Any, Any]:
    """Parses the model to a network; returns it with its parser, which must outlive the build."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise ModelError(f"{model}: TensorRT cannot read it: {reasons[0] if reasons else log.last}")
    return network, parser


def _builder_config(
    trt: Any, builder: Any, input_tensor: Any, shapes: list[tuple[int, ...]], sm: Sequence[int], workspace_mib: int | None
) -> Any:
    """Sets up a build. shapes: minimum, optimum and maximum shape of the input."""
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; TF32 has ten bits, no more than fp16
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that the plan lists its layers' precisions
    if workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mib << 20)
    for index, capability in enumerate(sm):
        config.num_compute_capabilities = len(sm)
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), index)
    if -1 in tuple(input_tensor.shape):
        profile = builder.create_optimization_profile()
        profile.set_shape(input_tensor.name, *shapes)
        config.add_optimization_profile(profile)
    return config


def _check_sizes(size: Size | None, between: tuple[Size, Size] | None, fixed: Size | None) -> tuple[Size, Size, Size]:
    """Returns minimum, optimum and maximum frame size of a plan. fixed: the model's own size, if it has one.

    Raises ConfigError for sizes that do not fit together, or that the model does not accept.
    """
    size = size or fixed
    if size is None:
        raise ConfigError("a plan needs a frame size: expected WIDTHxHEIGHT")
    smallest, largest = between or (size, size)
    for one in (smallest, size, largest):
        check_size(*one, fixed)
    if not all(low <= best <= high for low, best, high in zip(smallest, size, largest, strict=True)):
        raise ConfigError(f"{_sizes_text((smallest, size, largest))}: each size must be at least as large as the one before")
    return smallest, size, largest


def _check_output_sizes(input_tensor: Any, output_tensor: Any, sizes: Sequence[Size]) -> None:
    """Raises EngineError if the output's size differs from the input's: an engine allocates memory for equal sizes."""
    free = tuple(input_tensor.shape)
    for width, height in sizes:
        input_tensor.shape = (1, height, width, 3)  # TensorRT recomputes all shapes
        frame = (height, width, 3)
        known = [one if one >= 0 else other for one, other in zip(tuple(output_tensor.shape)[1:], frame, strict=True)]
        check_shape(known, frame)  # sizes that depend on the frame's content are checked when it runs
    input_tensor.shape = free


def _sizes_text(sizes: tuple[Size, Size, Size]) -> str:
    smallest, best, largest = (f"{width}x{height}" for width, height in sizes)
    return best if smallest == largest else f"{smallest} to {largest}, best at {best}"


def _precision(network: Any) -> str:
    """Returns the precision of the layers with weights, which the builder keeps in a strongly typed network."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    weighted = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
    found = {layer.get_output(0).dtype.name for layer in layers if layer.type.name in weighted}
    return {frozenset({"HALF"}): "fp16", frozenset({"FLOAT"}): "fp32", frozenset[str](): "fp32"}.get(frozenset(found), "mixed")


def _layers_of_plan(trt: Any, log: Any, plan: Any) -> str:
    """Returns the JSON report of TensorRT's inspector on a plan for the current GPU; empty if the plan cannot be loaded."""
    runtime = trt.Runtime(log)  # outlives its engine
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:  # not enough memory; running the plan will report it
        return ""
    layers = str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
    del engine
    return layers


def convolutions_not_in(precision: str, information: str) -> list[str]:
    """Returns the names of convolutions whose weights have another type, from an engine inspector's JSON.

    The inspector reports layers with kernels of their own, not those inside fused regions, and other versions may report less.
    Missing entries do not count against the plan.
    """
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, TypeError, KeyError):
        return []
    types = {"Half": "fp16", "Float": "fp32"}
    found = []
    for layer in (layer for layer in layers if isinstance(layer, dict)):
        weights = layer.get("Weights")
        dtype = types.get(weights.get("Type", "")) if isinstance(weights, dict) else None
        if "onvolution" in str(layer.get("ParameterType")) and dtype not in (None, precision) and precision in types.values():
            found.append(str(layer.get("Name")))
    return found


class _TimingCache:
    """Keeps TensorRT's kernel timings from build to build. TensorRT for RTX measures nothing, and has no such cache."""

    def __init__(self, config: Any, facts: PlanFacts) -> None:
        folder = cache_folder("timing") if facts.engine == "tensorrt" else None
        self._path = folder and folder / f"{facts.version}-sm{facts.sm[0]}.cache"
        self._config = config

    def __enter__(self) -> None:
        if self._path is not None:
            known = self._path.read_bytes() if self._path.is_file() else b""
            self._config.set_timing_cache(self._config.create_timing_cache(known), ignore_mismatch=False)

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            with atomic_write(self._path, overwrite=True) as partial:
                partial.write_bytes(bytes(self._config.get_timing_cache().serialize()))
