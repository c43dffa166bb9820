"""Builds TensorRT plans from frame models, and keeps them in the user's cache. TensorRT 10.3 to 11, and TensorRT for RTX.

The name of a plan's network holds its `PlanFacts` as JSON, so that a plan stays one file that any TensorRT program loads.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclecast.errors import ConfigError, EngineError, EngineNotInstalled, MissingModelError, ModelError
from cyclecast.files import atomic_write
from cyclecast.runtime.cuda import Gpu
from cyclecast.runtime.engine import OnBuild, check_shape, check_size, spec_from_metadata
from cyclecast.runtime.machine import RTX_TARGETS, cache_folder
from cyclecast.runtime.onnx_file import describe, metadata_of, openvino_library, read_model

Size = tuple[int, int]  # (width, height)
LATENT_BATCHES = (1, 16, 64)  # latents that a plan of a latent model takes at a time: minimum, optimum, maximum

# Engine -> Python module. The extra has the engine's name.
LIBRARIES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}
HEADER_START = '{"cyclecast_plan": '
OLD_KEYS = {"takes": "input_name", "gives": "output_name"}  # keys up to version 0.1.0 -> keys today
MAGIC = {b"vtrt": "tensorrt-rtx", b"ftrt": "tensorrt", b"ptrt": "tensorrt"}  # a plan's first bytes -> its engine


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """The source, the builder and the targets of a plan."""

    engine: str
    """tensorrt or tensorrt-rtx."""
    version: str
    """Version of the library that built it."""
    sm: tuple[int, ...]
    """Compute capabilities that it runs on, 89 for 8.9."""
    sizes: tuple[Size, Size, Size]
    """Minimum, optimum and maximum frame size (width, height); of a latent model, its image size, three times."""
    precision: str
    """Precision of the convolutions: fp32, fp16 or mixed."""
    input_name: str
    """Name of the input tensor: a frame, or latents."""
    output_name: str
    """Name of the output tensor: a frame, or images."""
    model_hash: str
    """SHA-256 of the ONNX file."""
    metadata: str | None
    """The ModelSpec's JSON, if the model has one."""

    def to_json(self) -> str:
        """One line that starts with `HEADER_START`."""
        return HEADER_START + json.dumps(dataclasses.asdict(self)) + "}"


def engine_of_plan(path: Path) -> str | None:
    """The engine that runs the plan at `path`, or None if the file is not a plan. ModelError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return MAGIC.get(file.read(4))
    except OSError as error:
        if not path.exists():
            raise MissingModelError(f"{path}: no such model") from error
        raise ModelError(f"{path}: cannot be read as a model ({error.strerror})") from error


def read_facts(plan: Path) -> PlanFacts | None:
    """Reads a plan's facts without any library; None if another program built it. ModelError if they cannot be read."""
    try:
        content = plan.read_bytes()
    except OSError as error:
        raise ModelError(f"{plan}: cannot be read ({error.strerror})") from error
    start = content.find(HEADER_START.encode())
    if start < 0:
        return None
    try:
        text = content[start : content.index(b"\0", start)].decode("utf-8", "replace")
        values = json.JSONDecoder().raw_decode(text)[0]["cyclecast_plan"]
        values = {OLD_KEYS.get(key, key): value for key, value in values.items()}
        smallest, best, largest = ((int(width), int(height)) for width, height in values["sizes"])
        values |= {"sizes": (smallest, best, largest), "sm": tuple(int(capability) for capability in values["sm"])}
        facts = PlanFacts(**{field.name: values[field.name] for field in dataclasses.fields(PlanFacts)})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{plan}: a truncated plan, or one of another version of cyclecast; build it again") from error
    spec_from_metadata(plan, facts.metadata)
    return facts


def library(engine: str) -> Any:
    """The engine's Python module. EngineUnavailable, with the line to type, if it is not installed."""
    try:
        return importlib.import_module(LIBRARIES[engine])
    except ImportError as error:
        raise EngineNotInstalled(f"{engine} is not installed: pip install 'cyclecast[{engine}]'") from error


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
    """Builds a plan of an ONNX frame model. The build is strongly typed: an fp16 plan needs an fp16 model.

    size: (width, height) of the frames; None for a model with a fixed size. between: the minimum and maximum size that the
    plan takes besides `size`; None: `size` alone, which is fastest. A latent model has no frame size; its plan takes 1 to 64
    latents. sm: compute capabilities to build for. TensorRT builds only for the GPU that it runs on, of index `gpu`; TensorRT
    for RTX builds for any of `RTX_TARGETS`, without a GPU. on_build: see `OnBuild`; an exception from it ends the build.

    Raises EngineUnavailable (library or GPU missing), ModelError (not a frame model, or operators that TensorRT lacks),
    ConfigError (sizes or compute capabilities that do not fit), and EngineError (the model changes the frame's size, or the
    build failed).
    """
    trt = library(engine)
    if engine_of_plan(model) is not None:
        raise ModelError(f"{model}: already a plan; expected an ONNX frame model")
    graph = read_model(openvino_library().Core(), model)
    metadata = metadata_of(graph)
    spec = spec_from_metadata(model, metadata)
    latent = spec.model_type == "latent"
    if latent and (size or between):
        raise ConfigError(f"{model}: a latent model has no frame size; leave the size out")
    sizes = None if latent else _sizes(size, between, describe(model, graph)[0])
    log = _logger(trt)
    sm = tuple(dict.fromkeys(sm))
    targets = _targets(engine, sm, gpu)
    builder = trt.Builder(log)
    network, parser = _parsed(trt, builder, log, model)
    input_tensor, output_tensor = network.get_input(0), network.get_output(0)
    if sizes is None:
        shapes: list[tuple[int, ...]] = [(rows, *tuple(input_tensor.shape)[1:]) for rows in LATENT_BATCHES]
        sizes = ((output_tensor.shape[2], output_tensor.shape[1]),) * 3
    else:
        shapes = [(1, height, width, 3) for width, height in sizes]
        _check_output_sizes(input_tensor, output_tensor, sizes)
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
    monitor = _monitor(trt, on_build)
    config.progress_monitor = monitor
    with _TimingCache(config, facts):
        plan = builder.build_serialized_network(network, config)
    del parser  # it owns the weights until here
    if monitor.error is not None:
        raise monitor.error
    if plan is None:
        raise EngineError(f"{engine} cannot build {model} of {_words(sizes)}: {log.last or 'no reason given'}")
    other = _layers_not_in(trt, log, plan, facts.precision) if engine == "tensorrt" else []  # RTX compiles at run time
    if other:
        raise EngineError(f"{engine} built {', '.join(other)} of {model} in another precision than {facts.precision}")
    if on_build is not None:
        on_build(1.0)
    return bytes(plan), facts


def kept_plan(model: Path, engine: str, size: Size, gpu: Gpu, on_build: OnBuild | None = None) -> Path:
    """The cached plan of an ONNX model for this size and this GPU, built if it is missing.

    The file's name holds all that a plan depends on: library and version, compute capability, the model's content, the size.
    """
    version = str(library(engine).__version__)
    content = hashlib.sha256(model.read_bytes()).hexdigest()[:24]
    folder = cache_folder("plans")
    if folder is None:
        raise EngineError("the cache folder for plans cannot be written; set XDG_CACHE_HOME to a folder that can")
    path = folder / f"{engine}-{version}-sm{gpu.capability}-{size[0]}x{size[1]}-{content}.plan"
    if not path.is_file():
        plan, _ = build_plan(model, engine, size, gpu=gpu.index, on_build=on_build)
        with atomic_write(path, overwrite=True) as partial:
            partial.write_bytes(plan)
    return path


def _targets(engine: str, sm: Sequence[int], gpu: int) -> tuple[int, ...]:
    """The compute capabilities to build for: those asked for, or that of the GPU of this index, which then runs the build."""
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


def _parsed(trt: Any, builder: Any, log: Any, model: Path) -> tuple[Any, Any]:
    """The network and its parser. The parser must outlive the build."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise ModelError(f"{model}: TensorRT cannot read it: {reasons[0] if reasons else log.last}")
    return network, parser


def _sizes(size: Size | None, between: tuple[Size, Size] | None, fixed: Size | None) -> tuple[Size, Size, Size]:
    size = size or fixed
    if size is None:
        raise ConfigError("a plan needs a frame size: give it as WIDTHxHEIGHT")
    smallest, largest = between or (size, size)
    for one in (smallest, size, largest):
        check_size(*one, fixed)
    if not all(low <= best <= high for low, best, high in zip(smallest, size, largest, strict=True)):
        raise ConfigError(f"{_words((smallest, size, largest))}: each size must be at least as large as the one before")
    return smallest, size, largest


def _check_output_sizes(input_tensor: Any, output_tensor: Any, sizes: Sequence[Size]) -> None:
    """EngineError if the output's size differs from the input's: an engine allocates memory for equal sizes."""
    free = tuple(input_tensor.shape)
    for width, height in sizes:
        input_tensor.shape = (1, height, width, 3)  # TensorRT recomputes all shapes
        frame = (height, width, 3)
        known = [one if one >= 0 else other for one, other in zip(tuple(output_tensor.shape)[1:], frame, strict=True)]
        check_shape(known, frame)  # the engine checks sizes that depend on the frame's content
    input_tensor.shape = free


def _words(sizes: tuple[Size, Size, Size]) -> str:
    smallest, best, largest = (f"{width}x{height}" for width, height in sizes)
    return best if smallest == largest else f"{smallest} to {largest}, best at {best}"


def _precision(network: Any) -> str:
    """Precision of the layers with weights. The builder keeps these types in a strongly typed network."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    weighted = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
    found = {layer.get_output(0).dtype.name for layer in layers if layer.type.name in weighted}
    return {frozenset({"HALF"}): "fp16", frozenset({"FLOAT"}): "fp32", frozenset[str](): "fp32"}.get(frozenset(found), "mixed")


def _layers_not_in(trt: Any, log: Any, plan: Any, precision: str) -> list[str]:
    """Convolutions of a plan for the current GPU that TensorRT's inspector reports in another precision."""
    runtime = trt.Runtime(log)  # outlives its engine
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:  # not enough memory; running the plan will report it
        return []
    information = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    del engine
    return convolutions_not_in(precision, information)


def convolutions_not_in(precision: str, information: str) -> list[str]:
    """Names of the convolutions whose weights have another type, from an engine inspector's JSON.

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


def _logger(trt: Any) -> Any:
    """A TensorRT logger that keeps the last error and prints nothing."""

    class Quiet(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.last = message

    return Quiet()


def _monitor(trt: Any, on_build: OnBuild | None) -> Any:
    """Turns TensorRT's nested phases into one share that never decreases; an exception in `on_build` ends the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps, steps done
            self.highest = 0.0
            self.error: BaseException | None = None

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.phases[name] = (parent, max(1, steps), 0)

        def phase_finish(self, name: str) -> None:
            self.phases.pop(name, None)

        def step_complete(self, name: str, step: int) -> bool:
            parent, steps, _ = self.phases[name]
            self.phases[name] = (parent, steps, step + 1)
            if self.error is None:
                try:  # an exception must not cross TensorRT's own frames
                    self.highest = max(self.highest, min(1.0, self.share(None)))
                    if on_build is not None:
                        on_build(self.highest)
                except BaseException as error:
                    self.error = error
            return self.error is None

        def share(self, parent: str | None) -> float:
            parts = [(done + self.share(name)) / steps for name, (above, steps, done) in self.phases.items() if above == parent]
            return max(parts, default=0.0)

    return Monitor()
