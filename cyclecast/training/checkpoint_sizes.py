"""How much memory a file of torch.save asks for, found without reading its tensors.

A file of a few kilobytes can ask for gigabytes: by tensors whose strides are 0, by compressed or overlapping entries of its zip
archive, and by calls that allocate. So its pickle is first read with stand-ins for everything that it names: nothing of
torch is called, no code runs, and only the sizes are kept.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from cyclecast.errors import ModelError

EXPANSION = 4  # bytes that may be asked for, for each byte of the file: two names of one tensor are common
ALLOWANCE = 64 << 20  # bytes beside that
ITEM_BYTES = {  # of the old names of storages
    **dict.fromkeys(("Char", "Byte", "Bool", "QInt8", "QUInt8", "Untyped"), 1),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    "ComplexDouble": 16,
}
WIDEST = 8  # bytes, for every other storage
LEGACY_PICKLES = 4  # magic number, version, facts about the machine, object; then the storages follow


def check_sizes(path: Path) -> None:
    """Raises ModelError if the file asks for much more memory than its own size. A broken file may raise an error of any type."""
    limit = EXPANSION * path.stat().st_size + ALLOWANCE
    with _pickles(path, limit) as (file, count):
        claims = Claims(file, encoding="latin1")
        for _ in range(count):
            claims.load()
    _check(path, "its tensors", claims.tensor_bytes, limit)
    _check(path, "its storages", sum(claims.storage_bytes.values()), limit)


def check_tensors(path: Path, state: object) -> None:
    """Raises ModelError if the tensors that were read, once copied, need much more memory than the file's size."""
    found = {id(tensor): tensor.numel() * tensor.element_size() for tensor in _tensors(state)}
    _check(path, "its tensors", sum(found.values()), EXPANSION * path.stat().st_size + ALLOWANCE)


def _check(path: Path, what: str, claimed: int, limit: int) -> None:
    if claimed > limit:
        raise ModelError(
            f"{path}: cannot be read as a checkpoint: {what} ask for {claimed / 1e9:.1f} GB, the file has "
            f"{path.stat().st_size / 1e9:.4f} GB; expected plain tensors, as a state_dict() has them"
        )


@contextmanager
def _pickles(path: Path, limit: int) -> Iterator[tuple[IO[bytes], int]]:
    """Yields (file, number of pickles at its beginning): `data.pkl` of a zip archive, or a file from before PyTorch 1.6."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield file, LEGACY_PICKLES
        return
    with zipfile.ZipFile(path) as archive:
        _check(path, "the entries of its archive", sum(entry.file_size for entry in archive.infolist()), limit)
        (name,) = [entry for entry in archive.namelist() if entry.partition("/")[2] == "data.pkl"]
        with archive.open(name) as file:
            yield file, 1


class StandIn:
    """A stand-in for every class and function that a pickle names: accepts anything and does nothing."""

    def __init__(self, *args: object, **fields: object) -> None:
        pass

    def __call__(self, *args: object, **fields: object) -> StandIn:
        return self

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass

    def add(self, item: object) -> None:
        pass


class Claims(pickle.Unpickler):
    """Reads pickles without what they name; sums up what their tensors and storages ask for."""

    def __init__(self, file: IO[bytes], **options: Any) -> None:
        super().__init__(file, **options)
        self.tensor_bytes = 0
        self.storage_bytes: dict[object, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Returns a stand-in for every class."""
        if module == "torch._tensor" and name.startswith("_rebuild_from_type"):
            return lambda function, _, args, *state: function(*args)
        if module == "torch._utils" and name.startswith(("_rebuild_tensor", "_rebuild_qtensor")):
            return self._claim_tensor
        if module == "torch" and name.endswith("Storage"):
            return ITEM_BYTES.get(name.removesuffix("Storage"), WIDEST)
        if name == "bytearray" or (module.partition(".")[0] == "torch" and name.endswith("Tensor")):
            return self._claim_allocation
        return type(name, (StandIn,), {})

    def persistent_load(self, pid: Any) -> Any:
        """Returns the bytes of an element of this storage."""
        if not isinstance(pid, tuple) or pid[0] != "storage":
            return StandIn()
        item, key, count = pid[1], pid[2], pid[4]
        self.storage_bytes[key] = item * count
        return item

    def _claim_tensor(self, item: int, offset: object, size: tuple[int, ...], *rest: object) -> StandIn:
        self.tensor_bytes += (item if isinstance(item, int) else WIDEST) * math.prod(size)
        return StandIn()

    def _claim_allocation(self, *args: object) -> StandIn:
        """Counts the bytes of `torch.FloatTensor(2, 3)` or `bytearray(6)`: both are allowed in a file of plain data."""
        numbers = [
            number for arg in args for number in (arg if isinstance(arg, tuple | list) else (arg,)) if isinstance(number, int)
        ]
        self.tensor_bytes += WIDEST * math.prod(numbers) if numbers else 0
        return StandIn()


def _tensors(state: object) -> Iterator[Tensor]:
    """Yields the tensors in nested dictionaries, lists and tuples."""
    waiting, seen = [state], set[int]()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple | set):
            waiting += item
        elif hasattr(item, "__dict__"):
            waiting.append(vars(item))
