"""`measure_engines` on real engines and a tiny model: its rows, their figures, and its errors."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from cyclecast.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from cyclecast.runtime.bench import Percentiles, measure_engines, percentiles, psnr_db, times_ms
from cyclecast.runtime.engine import Image
from cyclecast.runtime.engines import ENGINES, open_engine
from cyclecast.runtime.engines.onnxruntime import OnnxRuntimeEngine
from tests.commands import run_command
from tests.conftest import moving_frames
from tests.runtime.test_engines import model_file


def test_every_engine_is_timed_in_its_own_precision_and_in_fp32(tiny_model: Path) -> None:
    lines: list[str] = []
    report = measure_engines(tiny_model, moving_frames(3), count=4, on_message=lines.append)
    assert (report.model, report.size, report.frames) == ("tiny", "64x48", 4)
    assert "core" in report.machine
    expected, absent = [], []
    for name in ENGINES:
        try:
            chosen = open_engine(tiny_model, name).precision
        except EngineUnavailable as error:
            absent.append(f"left out: {error}")
            continue
        expected += [(name, chosen)] if chosen == "fp32" else [(name, chosen), (name, "fp32")]
    assert {"openvino", "onnxruntime"} <= {name for name, _ in expected}
    assert [(row.engine, row.precision) for row in report.rows] == expected
    assert lines == absent + [f"{name} {precision}: 3 frames to warm up, 4 timed" for name, precision in expected]
    for row in report.rows:
        assert row.device and 0 < row.ms.p50 <= row.ms.p95 <= row.ms.p99
        assert row.fps > 0
        assert row.psnr_db == math.inf if row.precision == "fp32" else 30 < row.psnr_db < math.inf


def test_only_the_requested_engines_are_timed_once_each(tiny_model: Path) -> None:
    engines_twice = ["onnxruntime", "onnxruntime"]
    assert [row.engine for row in measure_engines(tiny_model, moving_frames(1), engines_twice, count=1).rows] == ["onnxruntime"]
    auto = measure_engines(tiny_model, moving_frames(1), ["auto"], count=1).rows
    assert {row.engine for row in auto} == {open_engine(tiny_model).name}


def test_a_missing_engine_is_an_error_if_requested_and_left_out_otherwise(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    lines: list[str] = []
    with pytest.raises(EngineUnavailable, match="pip install openvino"):
        measure_engines(tiny_model, moving_frames(1), ["onnxruntime", "openvino"], on_message=lines.append)
    assert lines == []  # the error comes before anything is timed
    report = measure_engines(tiny_model, moving_frames(1), count=1, on_message=lines.append)
    assert [row.engine for row in report.rows] == ["onnxruntime"]
    assert "left out: openvino is not installed: pip install openvino" in lines
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineUnavailable, match="no engine can run it here: .*openvino is not installed.*; onnxruntime is not"):
        measure_engines(tiny_model, moving_frames(1))


@pytest.fixture
def engines() -> Iterator[dict[str, Any]]:
    """`ENGINES`, which the test may change; restored afterwards in the same order, which `auto` depends on."""
    before = dict(ENGINES)
    yield ENGINES
    ENGINES.clear()
    ENGINES.update(before)


def test_an_engine_without_fp32_is_compared_with_the_first_that_has_it(tiny_model: Path, engines: dict[str, Any]) -> None:
    class Coarse(OnnxRuntimeEngine):
        """Its outputs differ by one gray level everywhere, which is 20 log10(255) dB."""

        name = "coarse"

        def __init__(self, path: Path, device: str, precision: str) -> None:
            if precision not in ("auto", "fp16"):
                raise EngineUnavailable(f"coarse has no {precision}")
            super().__init__(path, "cpu", "auto")
            self.precision = "fp16"

        def run(self, frame: Image) -> Image:
            styled = super().run(frame)
            return np.where(styled > 127, styled - 1, styled + 1).astype(np.uint8)

    frames = moving_frames(2)
    engines["coarse"] = Coarse
    del engines["openvino"]  # so that the first engine with fp32 is the one that Coarse is based on
    (row,) = measure_engines(tiny_model, frames, ["coarse"], count=1).rows
    assert (row.engine, row.precision) == ("coarse", "fp16")
    assert row.psnr_db == pytest.approx(20 * math.log10(255))
    del engines["onnxruntime"]
    (row,) = measure_engines(tiny_model, frames, ["coarse"], count=1).rows
    assert math.isnan(row.psnr_db)


def test_invalid_models_engines_and_frames_are_rejected(tiny_model: Path, tmp_path: Path) -> None:
    fixed = model_file(tmp_path / "fixed.onnx", TensorProto.UINT8, [1, 48, 64, 3])
    with pytest.raises(EngineError, match="fixed to 64x48, got a frame of 32x32"):
        measure_engines(fixed, moving_frames(1, 32, 32))
    with pytest.raises(ConfigError, match="no engine named 'tensorflow'"):
        measure_engines(tiny_model, moving_frames(1), ["tensorflow"])
    with pytest.raises(ModelError, match="no such file"):
        measure_engines("manet", moving_frames(1))
    for frames, count in (([], 1), ([*moving_frames(1), *moving_frames(1, 32, 32)], 1), (moving_frames(1), 0)):
        with pytest.raises(ConfigError, match="frames of one size"):
            measure_engines(tiny_model, frames, count=count)


def test_each_call_is_timed_with_the_frames_in_turn() -> None:
    values: list[int] = []

    def run(frame: Image) -> None:
        values.append(int(frame[0, 0, 0]))
        until = time.perf_counter() + 0.002
        while time.perf_counter() < until:
            pass

    frames = [np.full((16, 16, 3), value, np.uint8) for value in (1, 2)]
    took = times_ms(run, frames, 5)
    assert values == [1, 2, 1, 2, 1] and len(took) == 5
    assert all(ms >= 2 for ms in took)


def test_percentiles_and_psnr_have_the_expected_values() -> None:
    assert percentiles([float(n) for n in range(101)]) == Percentiles(50.0, 95.0, 99.0)
    black, gray = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 51, np.uint8)
    assert psnr_db([black], [black]) == math.inf
    assert psnr_db([gray], [black]) == psnr_db([black], [gray]) == pytest.approx(20 * math.log10(255 / 51))
    assert psnr_db([black, black], [black, gray]) == pytest.approx(20 * math.log10(255 / 51) + 10 * math.log10(2))
    assert math.isnan(psnr_db([], [black]))


@pytest.mark.parametrize("command", ["bench", "convert"])
def test_the_help_names_the_order_in_which_auto_chooses_a_device(command: str) -> None:
    words = " ".join(run_command(command, "--help").stdout.replace("│", " ").split())
    assert "auto (the first one that works of: NVIDIA GPU, Intel GPU, Intel NPU, GPU of a Mac, other GPU, CPU)" in words
