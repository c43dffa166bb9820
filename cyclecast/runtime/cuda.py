"""CUDA without torch: a GPU, memory on both sides, a stream, a graph. Through NVIDIA's own `cuda-bindings`."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from cyclecast.errors import EngineError, EngineNotInstalled, EngineUnavailable
from cyclecast.future import Deferred, Future
from cyclecast.runtime.engine import IN_FLIGHT, Image


class Gpu:
    """The NVIDIA GPU of this index. EngineUnavailable if it, its driver or `cuda-bindings` is not here."""

    def __init__(self, index: int) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise EngineNotInstalled("cuda-bindings is not installed: pip install 'cyclecast[tensorrt]'") from error
        self._cuda = runtime
        try:
            (count,) = self.call("cudaGetDeviceCount")
        except EngineError as error:
            raise EngineUnavailable(f"no NVIDIA GPU can be used: {error}") from error
        if index >= count:
            raise EngineUnavailable(f"no GPU cuda:{index}: this machine has {count}")
        self.index = index
        attribute = runtime.cudaDeviceAttr
        (major,) = self.call("cudaDeviceGetAttribute", attribute.cudaDevAttrComputeCapabilityMajor, index)
        (minor,) = self.call("cudaDeviceGetAttribute", attribute.cudaDevAttrComputeCapabilityMinor, index)
        self.capability = 10 * int(major) + int(minor)
        """89 for compute capability 8.9."""
        (properties,) = self.call("cudaGetDeviceProperties", index)
        self.name = bytes(properties.name).split(b"\0")[0].decode()

    def call(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        """What a function of the CUDA runtime gives beside its error; EngineError with CUDA's own words if there is one."""
        error, *results = getattr(self._cuda, function)(*arguments)
        if error != self._cuda.cudaError_t.cudaSuccess:
            words = self._cuda.cudaGetErrorString(error)[1]
            raise EngineError(f"{function}: {words.decode() if isinstance(words, bytes) else words}")
        return tuple(results)

    def use(self) -> None:
        """CUDA calls of this thread go to this GPU from now on."""
        self.call("cudaSetDevice", self.index)


class ExecutionSlot:
    """What one frame at a time needs on a GPU: pinned and device memory for it and its picture, a stream, a graph of the work.

    `load` gives it the model's work: infer(stream) puts on the stream what leads from `device_in` to `device_out` (addresses).
    """

    def __init__(self, gpu: Gpu, shape: tuple[int, int, int]) -> None:
        self._gpu = gpu
        self._infer: Callable[[int], None] | None = None
        self._graph: Any = None
        self._under_way: _Fetched | None = None
        self._held: list[tuple[str, Any]] = []  # what to free, and by which function
        self._bytes = int(np.prod(shape))
        apart = 1  # from the default stream
        try:
            self.stream = self._hold("cudaStreamDestroy", gpu.call("cudaStreamCreateWithFlags", apart)[0])
            self._frame, self._host_in = self._pinned(shape)
            self._styled, self._host_out = self._pinned(shape)
            self.device_in = self._hold("cudaFree", gpu.call("cudaMalloc", self._bytes)[0])
            self.device_out = self._hold("cudaFree", gpu.call("cudaMalloc", self._bytes)[0])
        except EngineError:
            self.close()
            raise

    def _hold(self, free: str, handle: Any) -> Any:
        self._held.append((free, handle))
        return handle

    def _pinned(self, shape: tuple[int, int, int]) -> tuple[Image, int]:
        (address,) = self._gpu.call("cudaHostAlloc", self._bytes, 0)
        self._hold("cudaFreeHost", address)
        memory = (ctypes.c_uint8 * self._bytes).from_address(int(address))
        return np.ctypeslib.as_array(memory).reshape(shape), address

    def load(self, infer: Callable[[int], None]) -> None:
        """The model's work from now on; done once, on whatever lies there: kernels load, or are compiled."""
        self._infer = infer
        self._enqueue()
        self._wait()

    def record(self) -> None:
        """Captures copies and model as a CUDA graph, which one call starts from now on; after `load`."""
        mode = self._gpu._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._gpu.call("cudaStreamBeginCapture", self.stream, mode)
        try:
            self._enqueue()
        finally:
            (graph,) = self._gpu.call("cudaStreamEndCapture", self.stream)
        self._hold("cudaGraphDestroy", graph)
        self._graph = self._hold("cudaGraphExecDestroy", self._gpu.call("cudaGraphInstantiate", graph, 0)[0])

    @property
    def busy(self) -> bool:
        """A frame was begun here whose picture nobody has fetched."""
        return self._under_way is not None

    def submit(self, frame: Image) -> Future[Image]:
        """Starts on (H, W, 3) uint8; its picture is a new array of that shape. The one before is fetched first, if need be."""
        self._fetch()
        np.copyto(self._frame, frame)
        if self._graph is not None:
            self._gpu.call("cudaGraphLaunch", self._graph, self.stream)
        else:
            self._enqueue()
        fetched = self._under_way = _Fetched()

        def wait() -> Image:
            if self._under_way is fetched:
                self._fetch()
            if fetched.picture is None:
                raise EngineError("the frame failed on the GPU")
            return fetched.picture

        return Deferred(wait)

    def _fetch(self) -> None:
        if self._under_way is not None:
            fetched, self._under_way = self._under_way, None
            self._wait()
            fetched.picture = self._styled.copy()

    def _enqueue(self) -> None:
        """Copy in, infer, copy out."""
        assert self._infer is not None
        kind = self._gpu._cuda.cudaMemcpyKind
        self._gpu.call("cudaMemcpyAsync", self.device_in, self._host_in, self._bytes, kind.cudaMemcpyHostToDevice, self.stream)
        self._infer(int(self.stream))
        self._gpu.call("cudaMemcpyAsync", self._host_out, self.device_out, self._bytes, kind.cudaMemcpyDeviceToHost, self.stream)

    def _wait(self) -> None:
        self._gpu.call("cudaStreamSynchronize", self.stream)

    def close(self) -> None:
        """Fetches what is under way, and frees it all, the newest first; what fails to be freed holds up nothing."""
        for settle in (self._fetch, self._wait) if self._held else ():  # the first thing held is the stream
            with suppress(EngineError):
                settle()
        while self._held:
            with suppress(EngineError):
                self._gpu.call(*self._held.pop())


@dataclass
class _Fetched:
    """The picture of a frame, once it is off the GPU."""

    picture: Image | None = None


class ExecutionSlots:
    """Several frames of one size at a time: a lane for each, the second opened when it is first needed.

    open_lane: opens one. What only ever runs frame after frame keeps one lane's memory, and where there is not enough for a
    second, one does all the work.
    """

    def __init__(self, open_lane: Callable[[], ExecutionSlot]) -> None:
        self._open = open_lane
        self._lanes = deque([open_lane()])  # the one begun longest ago comes first
        self._most = IN_FLIGHT

    def submit(self, frame: Image) -> Future[Image]:
        """As `ExecutionSlot.begin`, in a lane that is free, or else in the one begun longest ago."""
        if all(lane.busy for lane in self._lanes) and len(self._lanes) < self._most:
            try:
                self._lanes.appendleft(self._open())
            except EngineError:
                self._most = len(self._lanes)
        lane = next((lane for lane in self._lanes if not lane.busy), self._lanes[0])
        self._lanes.remove(lane)
        self._lanes.append(lane)
        return lane.submit(frame)

    def close(self) -> None:
        """Closes them all."""
        while self._lanes:
            self._lanes.pop().close()
