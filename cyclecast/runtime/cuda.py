"""CUDA without torch: a GPU, memory on both sides, a stream, a graph. Through NVIDIA's own `cuda-bindings`."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclecast.errors import EngineError, EngineUnavailable

Image = NDArray[np.uint8]


class Gpu:
    """The NVIDIA GPU of this index. EngineUnavailable if it, its driver or `cuda-bindings` is not here."""

    def __init__(self, index: int) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise EngineUnavailable("cuda-bindings is not installed: pip install 'cyclecast[tensorrt]'") from error
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


class Lane:
    """What one frame size needs on a GPU: pinned and device memory for a frame in and out, a stream, and a graph of the work.

    enqueue(stream): puts the model's work on the stream, from `device_in` to `device_out` (addresses). record: the copies and
    the model are captured once as a CUDA graph, and one call starts them all.
    """

    def __init__(self, gpu: Gpu, shape: tuple[int, int, int]) -> None:
        self._gpu = gpu
        self._graph: Any = None
        self._held: list[tuple[str, Any]] = []  # what to free, and by which function
        self._bytes = int(np.prod(shape))
        apart = 1  # from the default stream
        self.stream = self._hold("cudaStreamDestroy", gpu.call("cudaStreamCreateWithFlags", apart)[0])
        self.frame, self._host_in = self._pinned(shape)
        self.styled, self._host_out = self._pinned(shape)
        self.device_in = self._hold("cudaFree", gpu.call("cudaMalloc", self._bytes)[0])
        self.device_out = self._hold("cudaFree", gpu.call("cudaMalloc", self._bytes)[0])

    def _hold(self, free: str, handle: Any) -> Any:
        self._held.append((free, handle))
        return handle

    def _pinned(self, shape: tuple[int, int, int]) -> tuple[Image, int]:
        (address,) = self._gpu.call("cudaHostAlloc", self._bytes, 0)
        self._hold("cudaFreeHost", address)
        memory = (ctypes.c_uint8 * self._bytes).from_address(int(address))
        return np.ctypeslib.as_array(memory).reshape(shape), address

    def enqueue(self, infer: Any) -> None:
        """Copy in, `infer(stream)`, copy out."""
        kind = self._gpu._cuda.cudaMemcpyKind
        self._gpu.call("cudaMemcpyAsync", self.device_in, self._host_in, self._bytes, kind.cudaMemcpyHostToDevice, self.stream)
        infer(int(self.stream))
        self._gpu.call("cudaMemcpyAsync", self._host_out, self.device_out, self._bytes, kind.cudaMemcpyDeviceToHost, self.stream)

    def record(self, infer: Any) -> None:
        """Captures what `enqueue` does; the model must have run once before."""
        mode = self._gpu._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._gpu.call("cudaStreamBeginCapture", self.stream, mode)
        try:
            self.enqueue(infer)
        finally:
            (graph,) = self._gpu.call("cudaStreamEndCapture", self.stream)
        self._hold("cudaGraphDestroy", graph)
        self._graph = self._hold("cudaGraphExecDestroy", self._gpu.call("cudaGraphInstantiate", graph, 0)[0])

    def run(self, frame: Image, infer: Any) -> Image:
        """(H, W, 3) uint8 -> a new array of that shape: by the graph if one was recorded, else by `infer`."""
        np.copyto(self.frame, frame)
        if self._graph is not None:
            self._gpu.call("cudaGraphLaunch", self._graph, self.stream)
        else:
            self.enqueue(infer)
        self.wait()
        return self.styled.copy()

    def wait(self) -> None:
        """Until all work on the stream is done."""
        self._gpu.call("cudaStreamSynchronize", self.stream)

    def close(self) -> None:
        """Frees it all; the newest first."""
        while self._held:
            self._gpu.call(*self._held.pop())
