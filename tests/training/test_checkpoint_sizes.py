"""A small file that asks for gigabytes is refused before anything of that size is read or allocated."""

from __future__ import annotations

import collections
import io
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cyclecast.errors import ModelError
from cyclecast.training import checkpoint
from cyclecast.training.checkpoint_sizes import ALLOWANCE, EXPANSION

HUGE = 46_341  # its square in float32 has 8.6 GB


def rewrite(path: Path, replace: Callable[[zipfile.ZipInfo, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Writes the archive again, with other contents or compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry, replace(entry, archive.read(entry))) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry, data in entries:
            archive.writestr(entry.filename, data)


class Call:
    """Pickled as the call of a function."""

    def __init__(self, function: Any, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def save_call(path: Path, function: Any, *args: object) -> None:
    torch.save({"weight": torch.zeros(3)}, path)
    data = pickle.dumps({"weight": Call(function, *args)}, protocol=2)
    rewrite(path, lambda entry, old: data if entry.filename.endswith("/data.pkl") else old)


def stride_of_zero(path: Path) -> None:
    torch.save({"model.1.weight": torch.zeros(1).expand(HUGE, HUGE)}, path)


def many_views(path: Path) -> None:
    whole = torch.zeros(1 << 20)
    torch.save({str(number): whole.view(1024, 1024) for number in range(2000)}, path)


def legacy_stride_of_zero(path: Path) -> None:
    torch.save({"model.1.weight": torch.zeros(1).expand(HUGE, HUGE)}, path, _use_new_zipfile_serialization=False)


def parameter(path: Path) -> None:
    torch.save({"weight": torch.nn.Parameter(torch.zeros(1).expand(HUGE, HUGE), requires_grad=False)}, path)


def compressed(path: Path) -> None:
    torch.save({"weight": torch.zeros(100 << 20)}, path)
    rewrite(path, lambda entry, data: data, zipfile.ZIP_DEFLATED)


def buffer(path: Path) -> None:
    save_call(path, bytearray, 8 << 30)


def allocation(path: Path) -> None:
    save_call(path, torch.FloatTensor, HUGE, HUGE)


BOMBS = [stride_of_zero, many_views, legacy_stride_of_zero, parameter, compressed, buffer, allocation]


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], None]], Path]:
    """bombs(build): the file that `build` writes, built once."""
    root = tmp_path_factory.mktemp("bombs")

    def path_of(build: Callable[[Path], None]) -> Path:
        path = root / str(build.__name__) / "latest_net_G.pth"
        if not path.exists():
            path.parent.mkdir()
            build(path)
        return path

    return path_of


@pytest.mark.parametrize("build", BOMBS, ids=lambda build: str(build.__name__))
def test_a_small_file_that_asks_for_gigabytes_is_refused(
    build: Callable[[Path], None], bombs: Callable[[Callable[[Path], None]], Path]
) -> None:
    path = bombs(build)
    assert path.stat().st_size < 8 << 20
    with pytest.raises(
        ModelError, match=r"latest_net_G\.pth: cannot be read as a checkpoint: .* ask for \d+\.\d GB, the file has"
    ):
        checkpoint.read_file(path)


READ = "import sys, resource; from pathlib import Path; from cyclecast.errors import ModelError\n"
READ += "from cyclecast.export.checkpoints import read_generator\n"
READ += "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
READ += "before = peak()\n"
READ += "for path in sys.argv[1:]:\n try: read_generator(Path(path))\n except ModelError: print(peak() - before)"


def test_refusing_them_takes_little_memory(bombs: Callable[[Callable[[Path], None]], Path]) -> None:
    paths = [bombs(build) for build in (stride_of_zero, compressed, buffer)]
    done = subprocess.run([sys.executable, "-c", READ, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peaks = [int(line) for line in done.stdout.split()]
    assert len(peaks) == 3 and max(peaks) < 200 << 10  # KiB, of all so far


def test_no_code_runs_while_sizes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    save_call(path, exec, f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="it wants to run code"):
        checkpoint.read_file(path)
    assert not (tmp_path / "ran").exists()


def tied() -> dict[str, Any]:
    weight = torch.rand(300, 1000)
    return {"a": weight, "b": weight, "c": weight.t(), "d": weight[:10], "n": torch.tensor(3), "none": None}


HONEST: dict[str, Any] = {
    "tied weights": tied(),
    "an expanded number": {"scale": torch.ones(1).expand(64, 64)},
    "many types": {str(dtype): torch.zeros(5, dtype=dtype) for dtype in (torch.float16, torch.bfloat16, torch.int64, torch.bool)},
    "complex": {"z": torch.zeros(4, dtype=torch.complex64)},
    "sparse": {"s": torch.eye(4).to_sparse()},
    "parameters": collections.OrderedDict(w=torch.nn.Parameter(torch.rand(3, 3))),
    "an optimizer": torch.optim.Adam([torch.nn.Parameter(torch.rand(3, 3))]).state_dict(),
    "a buffer": {"b": bytearray(b"abc"), "s": {1, 2}},
    "nothing": {},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", HONEST)
def test_honest_files_are_read(name: str, legacy: bool, tmp_path: Path) -> None:
    torch.save(HONEST[name], tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    assert checkpoint.read_file(tmp_path / "a.pth").keys() == HONEST[name].keys()


def test_a_file_of_the_largest_honest_expansion_is_read(tmp_path: Path) -> None:
    whole = torch.zeros(8 << 20)
    torch.save([whole.view(-1) for _ in range(EXPANSION)], tmp_path / "a.pth")
    assert len(checkpoint.read_file(tmp_path / "a.pth")) == EXPANSION and whole.nbytes * EXPANSION > ALLOWANCE


def test_every_broken_file_is_one_line(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"weight": torch.rand(20)}, stream)
    data = stream.getvalue()
    for number, cut in enumerate(
        [data[:50], data[:-30], data[:200] + b"\0" * 50 + data[250:], b"", b"\x80\x02.", b"\x80\x04K\x01."]
    ):
        path = tmp_path / f"{number}.pth"
        path.write_bytes(cut)
        with pytest.raises(ModelError) as caught:
            checkpoint.read_file(path)
        assert "\n" not in str(caught.value)
