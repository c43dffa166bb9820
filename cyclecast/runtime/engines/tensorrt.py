"""TensorRT, and TensorRT for RTX: the quickest engines on NVIDIA GPUs and Jetson boards, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclecast.errors import EngineError, EngineUnavailable, ModelError
from cyclecast.files import atomic_write
from cyclecast.future import Future
from cyclecast.runtime.cuda import ExecutionSlot, ExecutionSlots, Gpu
from cyclecast.runtime.engine import (
    Image,
    OnBuild,
    PerSizeCache,
    check_frame,
    check_shape,
    check_size,
    stated_kind,
    stated_precision,
)
from cyclecast.runtime.machine import cache_folder
from cyclecast.runtime.onnx_file import describe
from cyclecast.runtime.plan import PlanFacts, engine_of_plan, kept_plan, library, read_facts


class TensorRtEngine:
    """Runs a plan as it is, or builds one of an ONNX frame model for each frame size and keeps it in the user's cache."""

    name = "tensorrt"

    def __init__(self, path: Path, device: str, precision: str) -> None:
        self._trt = library(self.name)
        self._gpu = Gpu(self._index(device))
        self._gpu.use()
        self._runtime = self._trt.Runtime(self._trt.Logger(self._trt.Logger.ERROR))  # outlives its engines
        self.device = f"cuda:{self._gpu.index}, {self._gpu.name}"
        self._path = path
        self._facts: PlanFacts | None = None
        self.on_build: OnBuild | None = None
        if engine_of_plan(path) is not None:
            self._facts = self._facts_of(path)
            if stated_kind(self._facts.metadata) == "latent":
                raise ModelError(f"{path}: a plan that makes pictures of noise, for other programs; here frames are run")
            self._engine = self._deserialize(path)
            smallest, best, largest = self._facts.sizes
            self.size = best if smallest == largest else None
            self.metadata, self.precision = self._facts.metadata, self._facts.precision
        else:
            self.size, self.metadata = describe(path)
            self.precision = stated_precision(self.metadata)
        if precision not in ("auto", self.precision):
            raise EngineUnavailable(f"{self.name} computes this model in {self.precision}, not in {precision}; export it so")
        self._lanes = PerSizeCache(self._open, drop=ExecutionSlots.close)

    def _index(self, device: str) -> int:
        kind, _, index = device.partition(":")
        if kind not in ("auto", "gpu", "cuda") or not (index or "0").isdigit():
            raise EngineUnavailable(f"{self.name} runs on gpu or cuda:N, not on {device!r}")
        return int(index or 0)

    def _deserialize(self, path: Path) -> Any:
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            facts = self._facts_of(path)
            built = f"{facts.engine} {facts.version} for SM {', '.join(map(str, facts.sm))}"
            here = f"{self.name} {self._trt.__version__} on SM {self._gpu.capability}"
            raise ModelError(f"{path}: a plan of {built}, which {here} cannot load; build it again from the ONNX file here")
        return engine

    def _facts_of(self, path: Path) -> PlanFacts:
        facts = read_facts(path)
        if facts is None:
            raise ModelError(f"{path}: not a plan of cyclecast; build it with `cyclecast build`")
        return facts

    def _open(self, width: int, height: int) -> ExecutionSlots:
        check_size(width, height, self.size)
        self._gpu.use()
        if self._facts is None:
            engine = self._deserialize(kept_plan(self._path, self.name, (width, height), self._gpu, self.on_build))
        else:
            self._check_range(width, height)
            engine = self._engine
        return ExecutionSlots(lambda: self._lane(engine, width, height))

    def _lane(self, engine: Any, width: int, height: int) -> ExecutionSlot:
        """A lane with an execution context of its own: bound to its memory, warmed up, recorded as a graph."""
        context = self._context(engine)
        if context is None:
            raise EngineError(f"{self.name} has not the memory to run {self._path} on frames of {width}x{height}")
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        (takes,) = [name for name in names if engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT]
        (gives,) = [name for name in names if name != takes]
        if -1 in tuple(engine.get_tensor_shape(takes)):
            context.set_input_shape(takes, (1, height, width, 3))
        check_shape(tuple(context.get_tensor_shape(gives))[1:], (height, width, 3))  # what it gets is memory for one frame
        lane = ExecutionSlot(self._gpu, (height, width, 3))
        try:
            context.set_tensor_address(takes, int(lane.device_in))
            context.set_tensor_address(gives, int(lane.device_out))

            def infer(stream: int) -> None:
                if not context.execute_async_v3(stream):
                    raise EngineError(f"{self.name} failed on a frame of {width}x{height}")

            lane.load(infer)
            self._warmed()
            if self._records(context, int(lane.stream)):
                lane.record()
        except BaseException:
            lane.close()
            raise
        return lane

    def _check_range(self, width: int, height: int) -> None:
        assert self._facts is not None
        (low_width, low_height), _, (high_width, high_height) = self._facts.sizes
        if not (low_width <= width <= high_width and low_height <= height <= high_height):
            took = f"{low_width}x{low_height} to {high_width}x{high_height}"
            raise EngineError(f"the plan was built for frames of {took}, got one of {width}x{height}")

    def _context(self, engine: Any) -> Any:
        return engine.create_execution_context()

    def _warmed(self) -> None:
        """After the first frame of a size."""

    def _records(self, context: Any, stream: int) -> bool:
        """Whether the work may be captured as a CUDA graph."""
        return True

    def prepare(self, width: int, height: int) -> None:
        self._lanes.get(width, height)

    def run(self, frame: Image) -> Image:
        return self.submit(frame).result()

    def submit(self, frame: Image) -> Future[Image]:
        lanes = self._lanes.get(*check_frame(frame, self.size))
        self._gpu.use()
        return lanes.submit(frame)

    def close(self) -> None:
        self._lanes.close()


class TensorRtRtxEngine(TensorRtEngine):
    """TensorRT for RTX: its plans hold no kernels; those are compiled at a size's first frame, and kept in the user's cache."""

    name = "tensorrt-rtx"

    def _context(self, engine: Any) -> Any:
        settings = engine.create_runtime_config()
        self._cache = settings.create_runtime_cache()
        self._kept = self._cache_file()
        if self._kept is not None and self._kept.is_file():
            self._cache.deserialize(self._kept.read_bytes())  # of another GPU or driver it takes nothing
        settings.set_runtime_cache(self._cache)
        return engine.create_execution_context(settings)

    def _cache_file(self) -> Path | None:
        folder = cache_folder("tensorrt-rtx")
        return folder and folder / f"{self._trt.__version__}-sm{self._gpu.capability}.kernels"

    def _warmed(self) -> None:
        if self._kept is not None:
            with atomic_write(self._kept, overwrite=True) as partial:
                partial.write_bytes(bytes(self._cache.serialize()))

    def _records(self, context: Any, stream: int) -> bool:
        return bool(context.is_stream_capturable(stream))
