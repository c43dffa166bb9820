"""TensorRT and TensorRT for RTX: the fastest engines on NVIDIA GPUs and Jetson boards, without torch."""

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
    check_precision,
    check_shape,
    check_size,
    frame_spec,
    spec_from_metadata,
)
from cyclecast.runtime.machine import cache_folder
from cyclecast.runtime.model_file import ModelFile, as_model_file, read_model_file
from cyclecast.runtime.onnx_file import describe
from cyclecast.runtime.plan import PlanFacts, Size, engine_of_plan, read_facts
from cyclecast.runtime.plan_builder import cached_plan
from cyclecast.runtime.tensorrt_library import import_tensorrt
from cyclecast.runtime.threads import ThreadsRefused


class TensorRtEngine:
    """Runs a plan, or builds one from an ONNX frame model for each frame size and keeps it in the user's cache."""

    name = "tensorrt"

    def __init__(self, model: Path | ModelFile, device: str, precision: str) -> None:
        self._trt = import_tensorrt(self.name)
        self._gpu = Gpu(self._index(device))
        self._gpu.use()
        self._runtime = self._trt.Runtime(self._trt.Logger(self._trt.Logger.ERROR))  # outlives its engines
        self.device = f"cuda:{self._gpu.index}, {self._gpu.name}"
        self._file = as_model_file(model)
        self._path = path = self._file.path
        self._facts: PlanFacts | None = None
        self.size_range: tuple[Size, Size] | None = None  # the smallest and the largest frame, if a plan accepts several
        self.on_build: OnBuild | None = None
        if engine_of_plan(self._file) is not None:
            self._facts = self._facts_of(self._file)
            frame_spec(path, self._facts.metadata)
            self._engine = self._deserialize(self._file)
            smallest, best, largest = self._facts.sizes
            self.size = best if smallest == largest else None
            self.size_range = None if smallest == largest else (smallest, largest)
            self.metadata, self.precision = self._facts.metadata, self._facts.precision
        else:
            with self._file.on_disk() as found:
                self.size, self.metadata = describe(found)
            self.precision = spec_from_metadata(path, self.metadata).precision
        check_precision(self.name, self.precision, precision)
        self._slots = PerSizeCache(self._open, release=ExecutionSlots.close)

    def _index(self, device: str) -> int:
        name, _, index = device.partition(":")
        if name not in ("auto", "gpu", "cuda") or not (index or "0").isdigit():
            raise EngineUnavailable(f"{self.name} runs on gpu or cuda:N, not on {device!r}")
        return int(index or 0)

    def _deserialize(self, plan: ModelFile) -> Any:
        engine = self._runtime.deserialize_cuda_engine(plan.content)
        if engine is None:
            facts = self._facts_of(plan)
            built = f"{facts.engine} {facts.version} for SM {', '.join(map(str, facts.sm))}"
            here = f"{self.name} {self._trt.__version__} on SM {self._gpu.capability}"
            raise ModelError(f"{plan.path}: a plan of {built}, which {here} cannot load; build it again from the ONNX file here")
        return engine

    def _facts_of(self, plan: ModelFile) -> PlanFacts:
        facts = read_facts(plan)
        if facts is None:
            raise ModelError(f"{plan.path}: a plan that cyclecast did not build; build it with `cyclecast build`")
        return facts

    def _open(self, width: int, height: int) -> ExecutionSlots:
        check_size(width, height, self.size)
        self._gpu.use()
        if self._facts is None:
            with self._file.on_disk() as path:
                plan = cached_plan(path, self.name, (width, height), self._gpu, self.on_build)
            engine = self._deserialize(read_model_file(plan))
        else:
            self._check_range(width, height)
            engine = self._engine
        return ExecutionSlots(lambda: self._open_slot(engine, width, height))

    def _open_slot(self, engine: Any, width: int, height: int) -> ExecutionSlot:
        """Opens a slot with its own execution context, binds it to the slot's memory, warms it up and records a CUDA graph."""
        context = self._context(engine)
        if context is None:
            raise EngineError(f"{self.name} does not have enough memory to run {self._path} on frames of {width}x{height}")
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        (input_name,) = [name for name in names if engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT]
        (output_name,) = [name for name in names if name != input_name]
        if -1 in tuple(engine.get_tensor_shape(input_name)):
            context.set_input_shape(input_name, (1, height, width, 3))
        check_shape(tuple(context.get_tensor_shape(output_name))[1:], (height, width, 3))  # the slot has memory for one frame
        slot = ExecutionSlot(self._gpu, (height, width, 3))
        try:
            context.set_tensor_address(input_name, int(slot.device_in))
            context.set_tensor_address(output_name, int(slot.device_out))

            def infer(stream: int) -> None:
                if not context.execute_async_v3(stream):
                    raise EngineError(f"{self.name} failed on a frame of {width}x{height}")

            slot.load(infer)
            self._after_warm_up()
            if self._is_capturable(context, int(slot.stream)):
                slot.record()
        except BaseException:
            slot.close()
            raise
        return slot

    def _check_range(self, width: int, height: int) -> None:
        assert self._facts is not None
        (low_width, low_height), _, (high_width, high_height) = self._facts.sizes
        if not (low_width <= width <= high_width and low_height <= height <= high_height):
            sizes = f"{low_width}x{low_height} to {high_width}x{high_height}"
            raise EngineError(f"the plan was built for frames of {sizes}, got one of {width}x{height}")

    def _context(self, engine: Any) -> Any:
        return engine.create_execution_context()

    def _after_warm_up(self) -> None:
        """Does nothing. Called after the first frame of a size."""

    def _is_capturable(self, context: Any, stream: int) -> bool:
        """Returns whether the work can be captured as a CUDA graph."""
        return True

    def limit_threads(self, threads: int) -> None:
        raise ThreadsRefused(self.name, self.device)

    def prepare(self, width: int, height: int) -> None:
        self._slots.get(width, height)

    def run(self, frame: Image) -> Image:
        return self.submit(frame).result()

    def submit(self, frame: Image) -> Future[Image]:
        slots = self._slots.get(*check_frame(frame, self.size))
        self._gpu.use()
        return slots.submit(frame)

    def close(self) -> None:
        self._slots.close()


class TensorRtRtxEngine(TensorRtEngine):
    """TensorRT for RTX. Its plans have no kernels: it compiles them at the first frame of a size, and keeps them in the cache."""

    name = "tensorrt-rtx"

    def _context(self, engine: Any) -> Any:
        settings = engine.create_runtime_config()
        self._cache = settings.create_runtime_cache()
        self._kernels_file = self._cache_file()
        if self._kernels_file is not None and self._kernels_file.is_file():
            self._cache.deserialize(self._kernels_file.read_bytes())  # it ignores kernels of another GPU or driver
        settings.set_runtime_cache(self._cache)
        return engine.create_execution_context(settings)

    def _cache_file(self) -> Path | None:
        folder = cache_folder("tensorrt-rtx")
        return folder and folder / f"{self._trt.__version__}-sm{self._gpu.capability}.kernels"

    def _after_warm_up(self) -> None:
        if self._kernels_file is not None:
            with atomic_write(self._kernels_file, overwrite=True) as partial:
                partial.write_bytes(bytes(self._cache.serialize()))

    def _is_capturable(self, context: Any, stream: int) -> bool:
        return bool(context.is_stream_capturable(stream))
