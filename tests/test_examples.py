"""Runs the examples; those in C++ are compiled first, if a compiler and the libraries are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import cyclecast
from cyclecast.runtime.model import find_model
from cyclecast.video.scene import Scene

EXAMPLES = Path(__file__).parent.parent / "examples"
WIDTH, HEIGHT = 213, 121


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/frames_onnxruntime.cpp, linked with the library inside Python's onnxruntime package."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    include = next((folder for folder in _folders_of_headers() if (folder / "onnxruntime_cxx_api.h").is_file()), None)
    if include is None:
        pytest.skip("no headers of ONNX Runtime: Debian's libonnxruntime-dev, or ONNXRUNTIME_INCLUDE=FOLDER")
    import onnxruntime

    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)
    if library is None:
        pytest.skip("this onnxruntime brings no shared library")
    folder = tmp_path_factory.mktemp("frames")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)
    program = folder / "frames"
    words = ["-std=c++17", "-O1", "-Wall", f"-I{include}", f"-L{folder}", f"-Wl,-rpath,{folder}", "-o", str(program)]
    source = str(EXAMPLES / "frames_onnxruntime.cpp")
    subprocess.run([compiler, source, *words, "-lonnxruntime"], check=True, timeout=120)
    return program


def _folders_of_headers() -> list[Path]:
    named = os.environ.get("ONNXRUNTIME_INCLUDE")
    return [Path(named)] if named else [Path("/usr/include/onnxruntime"), Path("/usr/local/include/onnxruntime")]


def _run(program: Path, *words: str, video: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([program, *words], input=video, capture_output=True, timeout=60)


def test_the_onnxruntime_example_has_the_same_output_as_python(frames: Path) -> None:
    video = [frame.image for frame in Scene(WIDTH, HEIGHT, seconds=1, rate=3)]
    done = _run(frames, str(find_model("monet")), str(WIDTH), str(HEIGHT), video=b"".join(f.tobytes() for f in video))
    assert done.returncode == 0, done.stderr
    styled = np.frombuffer(done.stdout, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)
    with cyclecast.load("monet", "onnxruntime", "cpu") as model:
        expected = np.stack([model(frame) for frame in video])
    assert np.abs(styled.astype(int) - expected).max() <= 1


def test_the_onnxruntime_example_reports_errors_in_one_line(frames: Path, tmp_path: Path) -> None:
    monet, size = str(find_model("monet")), (str(WIDTH), str(HEIGHT))
    short = _run(frames, monet, *size, video=b"cut")
    assert short.returncode == 1 and b"is the video 213x121?" in short.stderr
    absent = _run(frames, str(tmp_path / "none.onnx"), *size)
    assert absent.returncode == 1 and b"none.onnx" in absent.stderr
    assert _run(frames, monet).returncode == 2


def test_the_tensorrt_example_compiles() -> None:
    compiler, cuda = shutil.which("c++"), "-I/usr/local/cuda/include"
    if compiler is None:
        pytest.skip("no C++ compiler")
    headers = b"#include <NvInfer.h>\n#include <cuda_runtime_api.h>\n"
    if subprocess.run([compiler, "-E", "-x", "c++", cuda, "-"], input=headers, capture_output=True).returncode:
        pytest.skip("no headers of TensorRT and CUDA")
    subprocess.run(
        [compiler, "-std=c++17", "-Wall", "-fsyntax-only", cuda, EXAMPLES / "frames_tensorrt.cpp"], check=True, timeout=120
    )


def test_pencil_pairs_have_the_names_and_sizes_that_style_expects(tmp_path: Path) -> None:
    from cyclecast.style.looks import read_look

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    for number, frame in enumerate(Scene(WIDTH, HEIGHT, seconds=1, rate=2)):
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.jpg"), frame.image)
    words = [str(EXAMPLES / "pencil_pairs.py"), str(tmp_path / "photos"), str(tmp_path / "pairs")]
    subprocess.run([sys.executable, *words], check=True, timeout=60)
    look = read_look([], (tmp_path / "pairs" / "before", tmp_path / "pairs" / "after"))
    assert str(look) == "2 keyframes"
    sketch = cv2.imread(str(tmp_path / "pairs" / "after" / "0.png"))
    assert sketch is not None and sketch.mean() > 150  # mostly paper
