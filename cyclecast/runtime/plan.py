"""From a frame model to a TensorRT plan: built once, kept in the user's cache. For TensorRT 10.3 to 11 and TensorRT for RTX.

A plan carries what it is (`PlanFacts`) in the name of its network, so that it stays one file that any TensorRT program loads.
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
from cyclecast.runtime.engine import OnBuild, check_shape, check_size, stated_kind, stated_precision
from cyclecast.runtime.machine import RTX_TARGETS, cache_folder
from cyclecast.runtime.onnx_file import describe, metadata_of, openvino_library, read_model

Size = tuple[int, int]  # (width, height)
LATENTS = (1, 16, 64)  # rows of noise that a plan of a latent model takes at a time: at least, best, at most

LIBRARIES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}  # engine -> Python module; the extra is named alike
MARK = '{"cyclecast_plan": '
MAGIC = {b"vtrt": "tensorrt-rtx", b"ftrt": "tensorrt", b"ptrt": "tensorrt"}  # a plan's first bytes -> its engine


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """What a plan was built of, with and for."""

    engine: str
    """tensorrt or tensorrt-rtx."""
    version: str
    """Of the library that built it."""
    sm: tuple[int, ...]
    """Compute capabilities that it runs on, 89 for 8.9."""
    sizes: tuple[Size, Size, Size]
    """The smallest (width, height) that it takes, the one it is best at, the largest; or that of a latent model's pictures."""
    precision: str
    """Of the convolutions: fp32, fp16 or mixed."""
    takes: str
    """The name of its input, a frame (or noise)."""
    gives: str
    """The name of its output, a frame (or pictures)."""
    model_hash: str
    """SHA-256 of the ONNX file."""
    metadata: str | None
    """The ModelSpec's JSON, if the model has one."""

    def to_json(self) -> str:
        """One line that starts with `MARK`."""
        return MARK + json.dumps(dataclasses.asdict(self)) + "}"


def engine_of_plan(path: Path) -> str | None:
    """The engine that runs the plan at `path`; None of another file. ModelError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return MAGIC.get(file.read(4))
    except OSError as error:
        raise MissingModelError(f"{path}: no such model") from error


def read_facts(plan: Path) -> PlanFacts | None:
    """What a plan says of itself, without any library; None if it was not built here. ModelError if it cannot be read."""
    try:
        content = plan.read_bytes()
    except OSError as error:
        raise ModelError(f"{plan}: cannot be read ({error.strerror})") from error
    start = content.find(MARK.encode())
    if start < 0:
        return None
    try:
        text = content[start : content.index(b"\0", start)].decode("utf-8", "replace")
        values = json.JSONDecoder().raw_decode(text)[0]["cyclecast_plan"]
        smallest, best, largest = ((int(width), int(height)) for width, height in values.pop("sizes"))
        return PlanFacts(sm=tuple(values.pop("sm")), sizes=(smallest, best, largest), **values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{plan}: a plan cut short, or of another version of cyclecast; build it again") from error


def library(engine: str) -> Any:
    """The Python module of `engine`. EngineUnavailable, with the line to type, if it is not installed."""
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
    """Builds the ONNX frame model for frames of `size`; strongly typed, so an fp16 plan comes of an fp16 model.

    size: (width, height); None for a model that is fixed to one. between: the smallest and the largest that the plan takes
    beside it; None: `size` alone, which is quickest. A latent model has no size; its plan takes from 1 to 64 rows of noise.
    sm: compute capabilities to build for; TensorRT itself builds for the GPU that it runs on only, the one of index `gpu`,
    TensorRT for RTX for any of `RTX_TARGETS`, without a GPU. on_build: see `OnBuild`; what it raises ends the build. Raises
    EngineUnavailable (library or GPU missing), ModelError (no frame model, or one with operators that TensorRT does not
    have), ConfigError (sizes or compute capabilities that do not fit), EngineError (the model changes the frame's size, or
    the build failed).
    """
    trt = library(engine)
    if engine_of_plan(model) is not None:
        raise ModelError(f"{model}: is a plan already; build takes an ONNX frame model")
    graph = read_model(openvino_library().Core(), model)
    metadata = metadata_of(graph)
    latent = stated_kind(metadata) == "latent"
    if latent and (size or between):
        raise ConfigError(f"{model}: makes pictures of noise, and is built for no frame size")
    sizes = None if latent else _sizes(size, between, describe(model, graph)[0])
    log = _logger(trt)
    sm = tuple(dict.fromkeys(sm))
    targets = _targets(engine, sm, gpu)
    builder = trt.Builder(log)
    network, parser = _parsed(trt, builder, log, model)
    takes, gives = network.get_input(0), network.get_output(0)
    if sizes is None:
        shapes: list[tuple[int, ...]] = [(rows, *tuple(takes.shape)[1:]) for rows in LATENTS]
        sizes = ((gives.shape[2], gives.shape[1]),) * 3
    else:
        shapes = [(1, height, width, 3) for width, height in sizes]
        _check_pictures(takes, gives, sizes)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default: fp32 would be rounded to TF32's ten bits, no more than fp16 has
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the plan then says what its layers were built as
    if workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mib << 20)
    for index, capability in enumerate(sm):
        config.num_compute_capabilities = len(sm)
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), index)
    if -1 in tuple(takes.shape):
        profile = builder.create_optimization_profile()
        profile.set_shape(takes.name, *shapes)
        config.add_optimization_profile(profile)
    facts = PlanFacts(
        engine=engine,
        version=str(trt.__version__),
        sm=targets,
        sizes=sizes,
        precision=_precision(network),
        takes=takes.name,
        gives=gives.name,
        model_hash=hashlib.sha256(model.read_bytes()).hexdigest(),
        metadata=metadata,
    )
    if metadata and facts.precision != stated_precision(metadata):
        said = stated_precision(metadata)
        raise ModelError(f"{model}: says {said}, but its convolutions are {facts.precision}; export it again")
    network.name = facts.to_json()
    if on_build is not None:
        on_build(0.0)
    monitor = _monitor(trt, on_build)
    config.progress_monitor = monitor
    with _TimingCache(config, facts):
        plan = builder.build_serialized_network(network, config)
    del parser  # it owns the weights until here
    if monitor.raised is not None:
        raise monitor.raised
    if plan is None:
        raise EngineError(f"{engine} cannot build {model} of {_words(sizes)}: {log.last or 'it says no more'}")
    other = _built_otherwise(trt, log, plan, facts.precision) if engine == "tensorrt" else []  # RTX compiles when it runs
    if other:
        raise EngineError(f"{engine} built {', '.join(other)} of {model} in another precision than {facts.precision}")
    if on_build is not None:
        on_build(1.0)
    return bytes(plan), facts


def kept_plan(model: Path, engine: str, size: Size, gpu: Gpu, on_build: OnBuild | None = None) -> Path:
    """A plan of the ONNX model for this size and this GPU out of the user's cache; if it is not there yet it is built, as told.

    Its name holds all that a plan depends on: library and version, compute capability, the model's content and the size.
    """
    version = str(library(engine).__version__)
    content = hashlib.sha256(model.read_bytes()).hexdigest()[:24]
    folder = cache_folder("plans")
    if folder is None:
        raise EngineError("plans are kept in the user's cache, which cannot be written; set XDG_CACHE_HOME to a folder that can")
    path = folder / f"{engine}-{version}-sm{gpu.capability}-{size[0]}x{size[1]}-{content}.plan"
    if not path.is_file():
        plan, _ = build_plan(model, engine, size, gpu=gpu.index, on_build=on_build)
        with atomic_write(path, overwrite=True) as partial:
            partial.write_bytes(plan)
    return path


def _targets(engine: str, sm: Sequence[int], gpu: int) -> tuple[int, ...]:
    """The compute capabilities to build for: those asked for, or that of the GPU at hand, which the build then works on."""
    unknown = [capability for capability in sm if capability not in RTX_TARGETS]
    if sm and engine != "tensorrt-rtx":
        raise ConfigError(f"{engine} builds for the GPU that it runs on; tensorrt-rtx builds for others")
    if unknown:
        raise ConfigError(f"{engine} builds for SM {', '.join(map(str, RTX_TARGETS))}, not for {unknown[0]}")
    if sm:
        return tuple(sm)
    own = Gpu(gpu)
    own.use()
    return (own.capability,)


def _parsed(trt: Any, builder: Any, log: Any, model: Path) -> tuple[Any, Any]:
    """The network and the parser, which must outlive the build."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise ModelError(f"{model}: TensorRT cannot read it: {reasons[0] if reasons else log.last}")
    return network, parser


def _sizes(size: Size | None, between: tuple[Size, Size] | None, fixed: Size | None) -> tuple[Size, Size, Size]:
    size = size or fixed
    if size is None:
        raise ConfigError("a plan is built for a size: name it as WIDTHxHEIGHT")
    smallest, largest = between or (size, size)
    for one in (smallest, size, largest):
        check_size(*one, fixed)
    if not all(low <= best <= high for low, best, high in zip(smallest, size, largest, strict=True)):
        raise ConfigError(f"{_words((smallest, size, largest))}: each size must hold the one before it")
    return smallest, size, largest


def _check_pictures(takes: Any, gives: Any, sizes: Sequence[Size]) -> None:
    """EngineError if a network gives pictures of another size than its frames: an engine has memory for that size only."""
    free = tuple(takes.shape)
    for width, height in sizes:
        takes.shape = (1, height, width, 3)  # what follows from it is computed anew
        frame = (height, width, 3)
        known = [one if one >= 0 else other for one, other in zip(tuple(gives.shape)[1:], frame, strict=True)]
        check_shape(known, frame)  # what only a picture's content decides is met by the engine
    takes.shape = free


def _words(sizes: tuple[Size, Size, Size]) -> str:
    smallest, best, largest = (f"{width}x{height}" for width, height in sizes)
    return best if smallest == largest else f"{smallest} to {largest}, best at {best}"


def _precision(network: Any) -> str:
    """Of what has weights. In a strongly typed network the builder keeps to these types."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    weighty = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
    found = {layer.get_output(0).dtype.name for layer in layers if layer.type.name in weighty}
    return {frozenset({"HALF"}): "fp16", frozenset({"FLOAT"}): "fp32", frozenset[str](): "fp32"}.get(frozenset(found), "mixed")


def _built_otherwise(trt: Any, log: Any, plan: Any, precision: str) -> list[str]:
    """The convolutions of a plan, built for the GPU at hand, that TensorRT's inspector tells of in another precision."""
    runtime = trt.Runtime(log)  # outlives its engine
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:  # no memory to spare; who runs the plan will hear of it
        return []
    information = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    del engine
    return convolutions_not_in(precision, information)


def convolutions_not_in(precision: str, information: str) -> list[str]:
    """Names of the convolutions whose weights have another type, of an engine inspector's JSON.

    It tells of layers with kernels of their own, not of those inside fused regions, and other versions may tell less: what it
    does not tell is not held against the plan.
    """
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, TypeError, KeyError):
        return []
    types = {"Half": "fp16", "Float": "fp32"}
    found = []
    for layer in (layer for layer in layers if isinstance(layer, dict)):
        weights = layer.get("Weights")
        kind = types.get(weights.get("Type", "")) if isinstance(weights, dict) else None
        if "onvolution" in str(layer.get("ParameterType")) and kind not in (None, precision) and precision in types.values():
            found.append(str(layer.get("Name")))
    return found


class _TimingCache:
    """What TensorRT measured of kernels, kept from build to build; TensorRT for RTX measures nothing, and has none."""

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
    """Keeps the last error, and says nothing itself."""

    class Quiet(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.last = message

    return Quiet()


def _monitor(trt: Any, on_build: OnBuild | None) -> Any:
    """Turns TensorRT's nested phases into one share that never goes back; an exception in it ends the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps, steps done
            self.most = 0.0
            self.raised: BaseException | None = None

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.phases[name] = (parent, max(1, steps), 0)

        def phase_finish(self, name: str) -> None:
            self.phases.pop(name, None)

        def step_complete(self, name: str, step: int) -> bool:
            parent, steps, _ = self.phases[name]
            self.phases[name] = (parent, steps, step + 1)
            if self.raised is None:
                try:  # an exception must not cross TensorRT's own frames
                    self.most = max(self.most, min(1.0, self.share(None)))
                    if on_build is not None:
                        on_build(self.most)
                except BaseException as error:
                    self.raised = error
            return self.raised is None

        def share(self, parent: str | None) -> float:
            parts = [(done + self.share(name)) / steps for name, (above, steps, done) in self.phases.items() if above == parent]
            return max(parts, default=0.0)

    return Monitor()
