"""Runs frames on an NVIDIA GPU without torch, through NVIDIA's `cuda-bindings`: memory, streams, CUDA graphs."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from cyclecast.errors import EngineError, EngineNotInstalled, EngineUnavailable
from cyclecast.future import Deferred, Future
from cyclecast.runtime.engine import IN_FLIGHT, Image


@functools.cache
def has_driver() -> bool:
    """Returns whether NVIDIA's driver is installed: without it, no package for its GPUs need be imported to ask for one."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


class Gpu:
    """The NVIDIA GPU of this index. Raises EngineUnavailable if the GPU, its driver or `cuda-bindings` is missing."""

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
        """Calls a function of the CUDA runtime and returns its results; EngineError with CUDA's message if it fails."""
        error, *results = getattr(self._cuda, function)(*arguments)
        if error != self._cuda.cudaError_t.cudaSuccess:
            message = self._cuda.cudaGetErrorString(error)[1]
            raise EngineError(f"{function}: {message.decode() if isinstance(message, bytes) else message}")
        return tuple(results)

    def use(self) -> None:
        """Makes this the current GPU of the calling thread."""
        self.call("cudaSetDevice", self.index)


class ExecutionSlot:
    """Resources for one frame in flight: pinned and device memory for input and output, a stream, a CUDA graph.

    `load` sets the model: infer(stream) enqueues the computation from the address `device_in` to the address `device_out`.
    """

    def __init__(self, gpu: Gpu, shape: tuple[int, int, int]) -> None:
        self._gpu = gpu
        self._infer: Callable[[int], None] | None = None
        self._graph: Any = None
        self._in_flight: _Output | None = None
        self._resources: list[tuple[str, Any]] = []  # what to free: (function, handle)
        self._bytes = int(np.prod(shape))
        non_blocking = 1  # does not wait for the default stream
        try:
            self.stream = self._track("cudaStreamDestroy", gpu.call("cudaStreamCreateWithFlags", non_blocking)[0])
            self._frame, self._host_in = self._pinned(shape)
            self._styled, self._host_out = self._pinned(shape)
            self.device_in = self._track("cudaFree", gpu.call("cudaMalloc", self._bytes)[0])
            self.device_out = self._track("cudaFree", gpu.call("cudaMalloc", self._bytes)[0])
        except EngineError:
            self.close()
            raise

    def _track(self, free: str, handle: Any) -> Any:
        self._resources.append((free, handle))
        return handle

    def _pinned(self, shape: tuple[int, int, int]) -> tuple[Image, int]:
        (address,) = self._gpu.call("cudaHostAlloc", self._bytes, 0)
        self._track("cudaFreeHost", address)
        memory = (ctypes.c_uint8 * self._bytes).from_address(int(address))
        return np.ctypeslib.as_array(memory).reshape(shape), address

    def load(self, infer: Callable[[int], None]) -> None:
        """Sets the model and runs it once on undefined input, so that kernels are loaded or compiled."""
        self._infer = infer
        self._enqueue()
        self._wait()

    def record(self) -> None:
        """Captures copies and model as a CUDA graph, so that one call starts a frame. Call it after `load`."""
        mode = self._gpu._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._gpu.call("cudaStreamBeginCapture", self.stream, mode)
        try:
            self._enqueue()
        finally:
            (graph,) = self._gpu.call("cudaStreamEndCapture", self.stream)
        self._track("cudaGraphDestroy", graph)
        self._graph = self._track("cudaGraphExecDestroy", self._gpu.call("cudaGraphInstantiate", graph, 0)[0])

    @property
    def is_busy(self) -> bool:
        """Whether a submitted frame's output has not been fetched."""
        return self._in_flight is not None

    def submit(self, frame: Image) -> Future[Image]:
        """Starts a frame, (H, W, 3) uint8; the result is a new array of that shape. Fetches the previous output first."""
        self._fetch()
        np.copyto(self._frame, frame)
        if self._graph is not None:
            self._gpu.call("cudaGraphLaunch", self._graph, self.stream)
        else:
            self._enqueue()
        output = self._in_flight = _Output()

        def wait() -> Image:
            if self._in_flight is output:
                self._fetch()
            if output.image is None:
                raise EngineError("the frame failed on the GPU")
            return output.image

        return Deferred(wait)

    def _fetch(self) -> None:
        if self._in_flight is not None:
            output, self._in_flight = self._in_flight, None
            self._wait()
            output.image = self._styled.copy()

    def _enqueue(self) -> None:
        """Enqueues the copy to the GPU, the model, and the copy back."""
        assert self._infer is not None
        direction = self._gpu._cuda.cudaMemcpyKind
        self._gpu.call(
            "cudaMemcpyAsync", self.device_in, self._host_in, self._bytes, direction.cudaMemcpyHostToDevice, self.stream
        )
        self._infer(int(self.stream))
        self._gpu.call(
            "cudaMemcpyAsync", self._host_out, self.device_out, self._bytes, direction.cudaMemcpyDeviceToHost, self.stream
        )

    def _wait(self) -> None:
        self._gpu.call("cudaStreamSynchronize", self.stream)

    def close(self) -> None:
        """Fetches the frame in flight, then frees all resources, the newest first, and ignores failures."""
        for finish in (self._fetch, self._wait) if self._resources else ():  # the first resource is the stream
            with suppress(EngineError):
                finish()
        while self._resources:
            with suppress(EngineError):
                self._gpu.call(*self._resources.pop())


@dataclass
class _Output:
    """The output of a frame; None until it is copied from the GPU."""

    image: Image | None = None


class ExecutionSlots:
    """Slots for several frames of one size in flight. The second slot opens when two frames first overlap.

    So a caller that waits for each frame uses the memory of one slot. If there is not enough memory for a second slot, one slot
    does all the work. open_slot: opens a slot.
    """

    def __init__(self, open_slot: Callable[[], ExecutionSlot]) -> None:
        self._open = open_slot
        self._slots = deque([open_slot()])  # the slot with the oldest frame comes first
        self._limit = IN_FLIGHT

    def submit(self, frame: Image) -> Future[Image]:
        """Submits a frame to a free slot, or else to the one whose frame is oldest. See `ExecutionSlot.submit`."""
        if all(slot.is_busy for slot in self._slots) and len(self._slots) < self._limit:
            try:
                self._slots.appendleft(self._open())
            except EngineError:  # not enough memory
                self._limit = len(self._slots)
        slot = next((slot for slot in self._slots if not slot.is_busy), self._slots[0])
        self._slots.remove(slot)
        self._slots.append(slot)
        return slot.submit(frame)

    def close(self) -> None:
        """Closes all slots."""
        while self._slots:
            self._slots.pop().close()
