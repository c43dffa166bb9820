"""PyTorch as an engine with a limited number of CPU threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cyclecast.export.torch_engine import TorchEngine
from cyclecast.runtime.engine import Image
from cyclecast.runtime.threads import ThreadsRefused


class LimitedTorchEngine(TorchEngine):
    """A TorchEngine that obeys `limit_threads`. Only its own frames are limited; the rest of the process is not."""

    _threads: int | None = None

    def limit_threads(self, threads: int) -> None:
        """See `Engine`."""
        if self._device.type != "cpu":
            raise ThreadsRefused(self.name, self.device)
        self._threads = threads

    def run(self, frame: Image) -> Image:
        with torch_threads(self._threads):
            return super().run(frame)


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Lets PyTorch compute with this many CPU threads inside; None: as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
