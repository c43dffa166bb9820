"""Memory, streams and graphs of the GPU engines, on a CUDA runtime simulated in host memory, for machines without a GPU.

The simulation replaces NVIDIA's library only. It checks the rules of CUDA: work stays on a stream until somebody waits for it,
memory that pending work needs must not be freed, and nothing else may happen while a graph is captured.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cyclecast.errors import EngineError, EngineUnavailable
from cyclecast.runtime.bench import measure_engines
from cyclecast.runtime.cuda import ExecutionSlot, ExecutionSlots, Gpu
from cyclecast.runtime.engine import IN_FLIGHT, Image
from cyclecast.runtime.engines import open_engine
from cyclecast.runtime.plan import PlanFacts

SHAPE = (16, 24, 3)
Work = Callable[[], None]


class HostCuda:
    """The part of `cuda.bindings.runtime` that the engines use."""

    cudaError_t = SimpleNamespace(cudaSuccess=0)
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaDeviceAttr = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=8, cudaDevAttrComputeCapabilityMinor=7)

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.streams: dict[int, list[tuple[Work, set[int]]]] = {}  # pending work, and the addresses that it needs
        self.graphs: dict[int, list[tuple[Work, set[int]]]] = {}
        self.captured: tuple[int, list[tuple[Work, set[int]]]] | None = None
        self.launches = 0
        self.failing: dict[str, int] = {}  # function -> the call of it that fails, counted down
        self._handles = itertools.count(1)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if not name.startswith("cuda") or not callable(found):
            return found

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.failing[name] = self.failing.get(name, 0) - 1
            return (1,) if self.failing[name] == 0 else (0, *(found(*arguments) or ()))

        return call

    def cudaGetErrorString(self, error: int) -> tuple[bytes]:
        return (b"out of memory",)

    def cudaGetDeviceCount(self) -> tuple[int]:
        return (1,)

    def cudaDeviceGetAttribute(self, attribute: int, index: int) -> tuple[int]:
        return (attribute,)

    def cudaGetDeviceProperties(self, index: int) -> tuple[Any]:
        return (SimpleNamespace(name=b"Host\0\0"),)

    def cudaSetDevice(self, index: int) -> None:
        assert index == 0

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int]:
        handle = next(self._handles)
        self.streams[handle] = []
        return (handle,)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[int]:
        return (self._allocate(size),)

    def cudaMalloc(self, size: int) -> tuple[int]:
        return (self._allocate(size),)

    def _allocate(self, size: int) -> int:
        assert self.captured is None, "allocated while a graph is captured"
        buffer = (ctypes.c_uint8 * size)(*[171] * size)  # undefined content
        self.memory[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def cudaFree(self, address: int) -> None:
        needed = {one for stream in self.streams.values() for _, addresses in stream for one in addresses}
        assert address not in needed, "freed while work on a stream needs it"
        del self.memory[address]

    cudaFreeHost = cudaFree

    def enqueue(self, stream: int, work: Work, *addresses: int) -> None:
        assert self.captured is None or self.captured[0] == stream
        (self.streams[stream] if self.captured is None else self.captured[1]).append((work, set(addresses)))

    def cudaMemcpyAsync(self, to: int, of: int, size: int, kind: int, stream: int) -> None:
        def copy() -> None:
            ctypes.memmove(to, of, size)

        self.enqueue(stream, copy, to, of)

    def cudaStreamSynchronize(self, stream: int) -> None:
        assert self.captured is None, "waited while a graph is captured"
        while self.streams[stream]:
            self.streams[stream].pop(0)[0]()

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> None:
        self.captured = (stream, [])

    def cudaStreamEndCapture(self, stream: int) -> tuple[int]:
        assert self.captured is not None
        handle = next(self._handles)
        self.graphs[handle], self.captured = self.captured[1], None
        return (handle,)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[int]:
        handle = next(self._handles)
        self.graphs[handle] = list(self.graphs[graph])
        return (handle,)

    def cudaGraphLaunch(self, graph: int, stream: int) -> None:
        self.launches += 1
        self.streams[stream].extend(self.graphs[graph])

    def cudaStreamDestroy(self, handle: int) -> None:
        assert not self.streams.pop(handle)

    def cudaGraphDestroy(self, handle: int) -> None:
        del self.graphs[handle]

    cudaGraphExecDestroy = cudaGraphDestroy

    @property
    def unfreed(self) -> int:
        """The number of allocations, streams and graphs that have not been freed."""
        return len(self.memory) + len(self.streams) + len(self.graphs)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostCuda]:
    """Replaces NVIDIA's CUDA bindings, and checks that the test frees everything."""
    host = HostCuda()
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(runtime=host))
    yield host
    assert host.unfreed == 0


def opener(cuda: HostCuda, record: bool = True) -> Callable[[], ExecutionSlot]:
    """Returns a function that opens slots whose model inverts the frame."""

    def negative(slot: ExecutionSlot) -> Callable[[int], None]:
        size = int(np.prod(SHAPE))

        def work() -> None:
            frame = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(slot.device_in))
            np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(slot.device_out))[:] = 255 - frame

        return lambda stream: cuda.enqueue(stream, work, slot.device_in, slot.device_out)

    def open_slot() -> ExecutionSlot:
        slot = ExecutionSlot(Gpu(0), SHAPE)
        try:
            slot.load(negative(slot))
            if record:
                slot.record()
        except EngineError:
            slot.close()
            raise
        return slot

    return open_slot


def frames(count: int) -> list[Image]:
    return [np.full(SHAPE, (10 * index, 10 * index + 1, 10 * index + 2), np.uint8) for index in range(count)]


def test_a_gpu_has_a_name_and_a_compute_capability(cuda: HostCuda) -> None:
    gpu = Gpu(0)
    assert (gpu.name, gpu.capability) == ("Host", 87)
    with pytest.raises(EngineUnavailable, match="no GPU cuda:1: this machine has 1"):
        Gpu(1)


@pytest.mark.parametrize("record", [True, False], ids=["graph", "no graph"])
def test_a_slot_computes_each_frame(cuda: HostCuda, record: bool) -> None:
    slot = opener(cuda, record)()
    outputs = [slot.submit(frame).result() for frame in frames(3)]
    for frame, output in zip(frames(3), outputs, strict=True):
        np.testing.assert_array_equal(output, 255 - frame)
    assert cuda.launches == (3 if record else 0)
    slot.close()


def test_two_slots_work_at_a_time_and_a_third_frame_waits_for_the_oldest(cuda: HostCuda) -> None:
    slots = ExecutionSlots(opener(cuda))
    one_slot = len(cuda.memory)
    slots.submit(frames(1)[0]).result()
    assert len(cuda.memory) == one_slot  # frames one after the other need one slot

    waiting = [slots.submit(frame) for frame in frames(2)]
    assert len(cuda.memory) == IN_FLIGHT * one_slot
    assert sum(map(bool, cuda.streams.values())) == IN_FLIGHT  # both streams have pending work
    waiting += [slots.submit(frame) for frame in frames(5)[2:]]
    assert len(cuda.memory) == IN_FLIGHT * one_slot
    for frame, future in zip(reversed(frames(5)), reversed(waiting), strict=True):
        np.testing.assert_array_equal(future.result(), 255 - frame)
    slots.close()


def test_a_frame_may_change_after_it_is_submitted(cuda: HostCuda) -> None:
    slots, frame = ExecutionSlots(opener(cuda)), frames(2)[1]
    expected = 255 - frame
    future = slots.submit(frame)
    frame[:] = 0
    np.testing.assert_array_equal(future.result(), expected)
    slots.close()


def test_close_keeps_the_outputs_in_flight(cuda: HostCuda) -> None:
    slots = ExecutionSlots(opener(cuda))
    waiting = [slots.submit(frame) for frame in frames(2)]
    slots.close()
    assert cuda.unfreed == 0
    for frame, future in zip(frames(2), waiting, strict=True):
        np.testing.assert_array_equal(future.result(), 255 - frame)


ALLOCATING_FUNCTIONS = [
    "cudaStreamCreateWithFlags",
    "cudaHostAlloc",
    "cudaMalloc",
    "cudaStreamSynchronize",
    "cudaGraphInstantiate",
]


@pytest.mark.parametrize("function", ALLOCATING_FUNCTIONS)
def test_a_slot_that_cannot_open_frees_its_resources(cuda: HostCuda, function: str) -> None:
    cuda.failing[function] = 1
    with pytest.raises(EngineError, match=f"{function}: out of memory"):
        opener(cuda)()
    assert cuda.unfreed == 0


def test_a_failed_frame_is_an_error_and_the_next_frames_run(cuda: HostCuda) -> None:
    slots = ExecutionSlots(opener(cuda))
    cuda.failing["cudaStreamSynchronize"] = 1
    future = slots.submit(frames(1)[0])
    with pytest.raises(EngineError, match="cudaStreamSynchronize: out of memory"):
        future.result()
    with pytest.raises(EngineError, match="failed on the GPU"):
        future.result()
    np.testing.assert_array_equal(slots.submit(frames(2)[1]).result(), 255 - frames(2)[1])
    slots.close()


def test_without_memory_for_a_second_slot_the_first_does_all_the_work(cuda: HostCuda) -> None:
    slots = ExecutionSlots(opener(cuda))
    first = slots.submit(frames(1)[0])
    cuda.failing["cudaMalloc"] = 1
    second = slots.submit(frames(2)[1])
    np.testing.assert_array_equal(second.result(), 255 - frames(2)[1])
    np.testing.assert_array_equal(first.result(), 255 - frames(1)[0])
    slots.close()


class HostTensorRt:
    """Simulates the part of `tensorrt` that runs plans. The model inverts frames and enlarges them by `factor`."""

    __version__ = "10.3.0"
    TensorIOMode = SimpleNamespace(INPUT=0, OUTPUT=1)

    def __init__(self, cuda: HostCuda, factor: int) -> None:
        self.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda logger, severity: None})
        self.Runtime = lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: self)
        self._cuda, self._factor = cuda, factor
        self.num_io_tensors = 2

    def get_tensor_name(self, index: int) -> str:
        return ("frame", "styled")[index]

    def get_tensor_mode(self, name: str) -> int:
        return 0 if name == "frame" else 1

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (1, -1, -1, 3)

    def create_execution_context(self) -> SimpleNamespace:
        shapes: dict[str, tuple[int, ...]] = {}
        addresses: dict[str, int] = {}

        def set_input_shape(name: str, shape: tuple[int, int, int, int]) -> None:
            shapes[name] = shape
            shapes["styled"] = (1, self._factor * shape[1], self._factor * shape[2], 3)

        def execute(stream: int) -> bool:
            size = int(np.prod(shapes["styled"]))

            def work() -> None:
                frame, styled = (
                    np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(addresses[name])) for name in ("frame", "styled")
                )
                styled[:] = 255 - frame

            self._cuda.enqueue(stream, work, *addresses.values())
            return True

        return SimpleNamespace(
            set_input_shape=set_input_shape,
            get_tensor_shape=shapes.__getitem__,
            set_tensor_address=addresses.__setitem__,
            execute_async_v3=execute,
        )


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A file with the facts of an fp16 plan for frames of 16x16 to 64x64."""
    facts = PlanFacts(
        engine="tensorrt",
        version="10.3.0",
        sm=(87,),
        sizes=((16, 16), (24, 16), (64, 64)),
        precision="fp16",
        input_name="frame",
        output_name="styled",
        model_hash="",
        metadata=None,
    )
    (tmp_path / "m.plan").write_bytes(b"ftrt" + facts.to_json().encode() + b"\0")
    return tmp_path / "m.plan"


def test_a_plan_runs_in_slots(cuda: HostCuda, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", HostTensorRt(cuda, 1))
    engine = open_engine(plan)
    assert (engine.name, engine.device, engine.precision, engine.size) == ("tensorrt", "cuda:0, Host", "fp16", None)
    for frame in frames(3):
        np.testing.assert_array_equal(engine.run(frame), 255 - frame)
    with pytest.raises(EngineError, match="built for frames of 16x16 to 64x64, got one of 128x16"):
        engine.run(np.zeros((16, 128, 3), np.uint8))
    engine.close()


def test_a_plan_with_larger_outputs_than_inputs_is_rejected_before_it_runs(
    cuda: HostCuda, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", HostTensorRt(cuda, 2))
    engine = open_engine(plan)
    with pytest.raises(EngineError, match="not a frame model: its output is 48x32 for an input of 24x16"):
        engine.run(frames(1)[0])
    assert cuda.unfreed == 0


def test_bench_times_a_plan_on_its_own_engine_without_a_psnr(cuda: HostCuda, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from cyclecast.cli.bench import bench_table

    with pytest.raises(EngineUnavailable, match="tensorrt is not installed"):
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        measure_engines(plan, frames(2), count=3)
    monkeypatch.setitem(sys.modules, "tensorrt", HostTensorRt(cuda, 1))
    report = measure_engines(plan, frames(2), count=3)
    (row,) = report.rows
    assert (row.engine, row.precision) == ("tensorrt", "fp16") and np.isnan(row.psnr_db)
    console = Console(width=120)
    with console.capture() as printed:
        console.print(bench_table(report))
    assert "tensorrt fp16" in printed.get() and "no fp32" in printed.get() and "nan" not in printed.get()
