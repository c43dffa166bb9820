"""Exports checkpoints as ONNX files, and compares their output with PyTorch's."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import cyclecast
from cyclecast.errors import ConfigError, ModelError, OutputError
from cyclecast.export.agreement import center_crop_resize, compare, compare_engines
from cyclecast.export.block_graph import frame_graph
from cyclecast.export.checkpoints import TrainedGenerator, read_generator
from cyclecast.export.frame_graph import reference, with_colors_of
from cyclecast.export.onnx import export_onnx
from cyclecast.export.verify import verify
from cyclecast.runtime.engines import open_engine
from cyclecast.runtime.model import bundled_models
from cyclecast.spec import METADATA_KEY, ModelSpec
from cyclecast.training.networks import FrameGenerator, ImageGenerator, ResnetGenerator, build_generator
from cyclecast.video.files.images import read_image
from cyclecast.video.frame import Image
from tests.commands import run_command
from tests.conftest import FAMILIES, family_network, moving_frames, shared
from tests.export.originals import CachedReference, saved


def test_the_file_is_a_frame_model_with_its_spec(tiny_model: Path) -> None:
    model = onnx.load(str(tiny_model), load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    (frame,), (styled,) = model.graph.input, model.graph.output
    for port, name in ((frame, "frame"), (styled, "styled")):
        tensor_type = port.type.tensor_type
        assert (port.name, tensor_type.elem_type) == (name, onnx.TensorProto.UINT8)
        assert [d.dim_param or d.dim_value for d in tensor_type.shape.dim] == [1, "height", "width", 3]
    assert [o.version for o in model.opset_import if o.domain == ""] == [18]
    assert not any(t.external_data for t in model.graph.initializer)
    spec = ModelSpec.from_json({p.key: p.value for p in model.metadata_props}[METADATA_KEY])
    assert (spec.model_type, spec.recipe, spec.direction, spec.steps, spec.size) == ("frame", "cyclegan", "a2b", 2, None)
    assert spec.architecture == {"generator": "resnet6", "ngf": 4, "upsample": "resize", "skip": False, "norm": "instance"}


def test_uint8_is_cast_only_at_the_input_and_the_output(tiny_model: Path) -> None:
    nodes = onnx.load(str(tiny_model)).graph.node  # TensorRT takes uint8 nowhere else
    readers = [node.op_type for node in nodes if "frame" in node.input]
    assert set(readers) <= {"Cast", "Shape"} and readers.count("Cast") == 1
    assert nodes[-1].op_type == "Cast" and list(nodes[-1].output) == ["styled"]


@pytest.mark.parametrize("skip", [False, True], ids=["whole", "skip"])
@pytest.mark.parametrize("upsample", ["deconvolution", "resize", "pixelshuffle"])
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (131, 97), (96, 64)], ids=str)
def test_the_graph_agrees_with_the_reference_at_any_size(upsample: str, size: tuple[int, int], skip: bool) -> None:
    torch.manual_seed(0)
    generator = build_generator("resnet6", ngf=8, upsample=upsample, skip=skip).eval()
    frame = torch.from_numpy(moving_frames(3, *size)[1])
    with torch.no_grad():
        styled = {share: frame_graph(generator, share)(frame[None])[0] for share in (0.0, 0.7)}
    assert styled[0.0].shape == frame.shape and styled[0.0].dtype == torch.uint8
    for share, output in styled.items():
        assert (output.int() - reference(generator, frame, share).int()).abs().max() <= 1


def generator_with_contrast(generator: str, **settings: object) -> ImageGenerator:
    """Builds a generator with weights so large that its outputs have contrast."""
    torch.manual_seed(0)
    network = build_generator(generator, **settings).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return network


@pytest.mark.parametrize("skip", [False, True], ids=["whole", "skip"])
@pytest.mark.parametrize("upsample", ["deconvolution", "resize", "pixelshuffle"])
def test_a_unets_graph_agrees_with_the_reference_although_it_pads_with_zeros(upsample: str, skip: bool) -> None:
    generator = generator_with_contrast("unet128", ngf=2, upsample=upsample, skip=skip)
    for size in ((16, 16), (131, 97)):
        frame = torch.from_numpy(moving_frames(3, *size)[1])
        with torch.no_grad():
            output = frame_graph(generator, 0.3)(frame[None])[0]
        expected = reference(generator, frame, 0.3)
        assert output.shape == frame.shape and expected.float().std() > 10
        assert (output.int() - expected.int()).abs().max() <= 1


def test_the_file_accepts_any_size(tmp_path: Path) -> None:
    """With pixelshuffle; the other networks are in test_verify.py."""
    architecture: dict[str, Any] = {"generator": "resnet", "blocks": 1, "ngf": 2, "upsample": "pixelshuffle"}
    generator = generator_with_contrast(**architecture)
    frames, expected = moving_frames(2, 64, 48), CachedReference(generator)
    export_onnx(TrainedGenerator(generator, "cyclegan", "a2b", architecture, 0, frames), tmp_path / "m.onnx", check=False)
    for runtime in ("onnxruntime", "openvino"):
        engine = open_engine(tmp_path / "m.onnx", runtime, "cpu", "fp32")
        assert engine.size is None
        report = compare_engines(engine, expected, frames, sizes=((16, 16), (131, 97), (64, 128)))
        assert [(agreement.size, agreement.passed) for agreement in report] == [
            ((16, 16), True),
            ((131, 97), True),
            ((64, 128), True),
        ]


def test_colors_come_from_the_source_and_brightness_from_the_generator() -> None:
    torch.manual_seed(0)
    source, styled = torch.rand(1, 3, 8, 8) * 255, torch.rand(1, 3, 8, 8) * 255
    weights = torch.tensor([0.114, 0.587, 0.299]).reshape(1, 3, 1, 1)

    def parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        brightness = (x * weights).sum(1, keepdim=True)
        return brightness, x - brightness

    got = parts(with_colors_of(source, styled, 1.0))
    close = functools.partial(torch.testing.assert_close, atol=0.01, rtol=0.0)  # gray levels
    close(got[0], parts(styled)[0])
    close(got[1], parts(source)[1])
    close(with_colors_of(source, styled, 0.0), styled)


@pytest.mark.parametrize("factor", [4, 8])
@pytest.mark.parametrize("size", [(16, 16), (19, 31), (131, 97)], ids=str)
def test_a_frame_generators_graph_agrees_with_the_reference_at_any_size(factor: int, size: tuple[int, int]) -> None:
    generator = generator_with_contrast("frame", width=8, blocks=2, factor=factor)
    frame = torch.from_numpy(moving_frames(3, *size)[1])
    with torch.no_grad():
        output = frame_graph(generator)(frame[None])[0]
    assert output.shape == frame.shape and output.float().std() > 10
    assert (output.int() - reference(generator, frame).int()).abs().max() <= 1


@pytest.mark.parametrize("name", bundled_models())
def test_the_bundled_models_have_no_border_artifacts_on_a_flat_frame(name: str) -> None:
    with cyclecast.load(name, engine="onnxruntime") as model:
        for color in ((60, 150, 90), (200, 150, 90), (128, 128, 128), (40, 60, 120)):
            styled = model(np.full((120, 160, 3), color, np.uint8)).astype(int)
            assert np.abs(styled - styled[40:80, 40:120].mean((0, 1))).max() <= 8, color  # without a margin: 33 to 65


def test_reference_is_the_plain_formula() -> None:
    torch.manual_seed(0)
    generator = build_generator("resnet6", ngf=4, upsample="resize").eval()
    frame = moving_frames(3, 32, 16)[0]
    rgb = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = ((generator(rgb)[0] + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).numpy()[..., ::-1]
    assert np.abs(reference(generator, torch.from_numpy(frame)).numpy() - expected).max() <= 1


@pytest.fixture(scope="module")
def small() -> TrainedGenerator:
    """A generator whose export takes a moment, with contrast, and two frames to compare on."""
    return TrainedGenerator(family_network("frame"), "cyclegan", "b2a", FAMILIES["frame"], 0, moving_frames(2))


def exported_with(trained: TrainedGenerator, path: Path, **options: Any) -> Path:
    """Exports the generator to `path`."""
    export_onnx(trained, path, **options)
    return path


def assert_strength(weak: Path, strength: float, whole: Callable[[str, str], Image]) -> None:
    """Checks that in every engine the output is a blend of the frame and the styled frame, whole(engine, precision)."""
    frame = moving_frames(3, 64, 48)[2]
    for engine, precision in (("onnxruntime", "auto"), ("openvino", "fp32"), ("torch", "auto")):
        styled, blended = whole(engine, precision), cyclecast.open_engine(weak, engine, "cpu", precision).run(frame)
        expected = frame + strength * (styled.astype(float) - frame)
        assert np.abs(frame.astype(float) - styled).max() > 30
        assert np.abs(blended - expected).max() <= 1, engine


def spec_of(path: Path) -> ModelSpec:
    return ModelSpec.from_json({p.key: p.value for p in onnx.load(str(path)).metadata_props}[METADATA_KEY])


def test_export_reports_three_sizes_within_a_gray_level(small: TrainedGenerator, tmp_path: Path) -> None:
    """A file of any size with all options that add to the graph."""
    report = export_onnx(small, tmp_path / "m.onnx", keep_colors=0.5, strength=0.3)
    assert [a.size for a in report] == [(131, 97), (256, 256), (640, 360)]
    assert all(a.passed and a.max_abs <= 1 and a.psnr_db > 60 and a.frames == 2 for a in report)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert isinstance(small.network, FrameGenerator)
    styled = reference(small.network, torch.from_numpy(moving_frames(3, 64, 48)[2]), 0.5).numpy()
    assert_strength(tmp_path / "m.onnx", 0.3, lambda *engine: styled)
    spec = spec_of(tmp_path / "m.onnx")
    assert (spec.strength, spec.keep_colors, spec.size) == (0.3, 0.5, None)


def test_a_strength_is_the_blend_with_the_source(small: TrainedGenerator, tmp_path: Path) -> None:
    options: dict[str, Any] = {"keep_colors": 0.5, "precision": "fp16", "opset": 20, "size": (64, 48)}
    whole, weak = (exported_with(small, tmp_path / f"{s}.onnx", strength=s, **options) for s in (1.0, 0.3))
    frame = moving_frames(3, 64, 48)[2]
    assert_strength(weak, 0.3, lambda engine, precision: cyclecast.open_engine(whole, engine, "cpu", precision).run(frame))
    assert [(spec.strength, spec.keep_colors) for spec in map(spec_of, (whole, weak))] == [(1.0, 0.5), (0.3, 0.5)]
    assert onnx.load(str(weak)).opset_import[0].version == 20


def test_verify_applies_the_strength_of_the_file(small: TrainedGenerator, tmp_path: Path) -> None:
    path = exported_with(small, tmp_path / "m.onnx", strength=0.3, size=(64, 48), check=False)
    engine = open_engine(path, "onnxruntime", "cpu")
    assert isinstance(small.network, FrameGenerator)
    assert all(a.passed for a in verify(engine, small.network, small.frames, strength=0.3))
    assert not any(a.passed for a in verify(engine, small.network, small.frames))
    done = run_command("verify", path, "--against", saved(small.network, tmp_path / "G_BA.pth"), "--json")
    assert done.returncode == 0, done.stderr


def test_strength_1_adds_nothing_to_the_file(small: TrainedGenerator, tmp_path: Path) -> None:
    """A lower strength adds three nodes to the graph."""
    folders = [tmp_path / name for name in ("default", "one", "weak")]
    options: list[dict[str, Any]] = [{}, {"strength": 1.0}, {"strength": 0.5}]
    for folder, option in zip(folders, options, strict=True):
        folder.mkdir()
        exported_with(small, folder / "m.onnx", size=(64, 48), check=False, **option)
    default, one, weak = (folder / "m.onnx" for folder in folders)
    assert default.read_bytes() == one.read_bytes() and b'"strength"' not in one.read_bytes()
    plain, blended = (Counter(node.op_type for node in onnx.load(str(path)).graph.node) for path in (one, weak))
    assert blended - plain == Counter(["Sub", "Mul", "Add"]) and not plain - blended


def test_the_command_exports_a_strength(run: Path, tmp_path: Path) -> None:
    options = ("--direction", "b2a", "--strength", 0, "--size", "64x48", "--no-verify")
    done = run_command("export", run, "-o", tmp_path / "m.onnx", *options)
    assert done.returncode == 0, done.stderr
    frame = moving_frames(1, 64, 48)[0]
    assert np.array_equal(open_engine(tmp_path / "m.onnx", "onnxruntime", "cpu").run(frame), frame)
    done = run_command("export", run, "--triton", tmp_path / "triton", "--strength", 0.5)
    assert done.returncode == 2 and "--output" in done.stderr


def test_engines_agree_on_real_photos(tiny_model: Path, run: Path) -> None:
    photos = [read_image(path) for path in sorted(shared("data/monet2photo/testB").glob("*.jpg"))[:3]]
    network = read_generator(run, "a2b").network
    assert isinstance(network, ResnetGenerator)
    expected = CachedReference(network)
    for engine, precision in (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "auto")):
        opened = open_engine(tiny_model, engine, "cpu", precision)
        report = compare_engines(opened, expected, photos, ((16, 16), (131, 97), (256, 256)))
        assert len(report) == 3 and all(a.passed for a in report)


def test_opset_19_and_a_fixed_size_are_exported(small: TrainedGenerator, tmp_path: Path) -> None:
    export_onnx(small, tmp_path / "m.onnx", opset=19, size=(50, 38))
    assert onnx.load(str(tmp_path / "m.onnx")).opset_import[0].version == 19
    engine = open_engine(tmp_path / "m.onnx", "onnxruntime")
    assert engine.size == (50, 38)
    assert engine.run(moving_frames(1, 50, 38)[0]).shape == (38, 50, 3)


def test_a_graph_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = TrainedGenerator(generator_with_contrast("frame", width=8, blocks=1), "distill", "a2b", {}, 0, moving_frames(1))
    other = build_generator("frame", width=8, blocks=2)

    monkeypatch.setattr("cyclecast.export.onnx.frame_graph", lambda generator, *options: frame_graph(other, *options))
    with pytest.raises(ModelError, match="differs from PyTorch by"):
        export_onnx(trained, tmp_path / "m.onnx", size=(64, 48))
    assert list(tmp_path.iterdir()) == []


def test_invalid_export_options_are_rejected(run: Path, tmp_path: Path) -> None:
    trained = read_generator(run, "a2b")
    with pytest.raises(ConfigError, match="opset must be one of 18, 19, 20"):
        export_onnx(trained, tmp_path / "m.onnx", opset=11)
    with pytest.raises(ConfigError, match="keep_colors must be from 0 to 1"):
        export_onnx(trained, tmp_path / "m.onnx", keep_colors=2)
    for strength in (-0.5, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="strength must be from 0 to 1"):
            export_onnx(trained, tmp_path / "m.onnx", strength=strength)
    with pytest.raises(ConfigError, match="frames start at 16x16"):
        export_onnx(trained, tmp_path / "m.onnx", size=(8, 8))
    (tmp_path / "there.onnx").write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        export_onnx(trained, tmp_path / "there.onnx")
    assert (tmp_path / "there.onnx").read_text() == "precious"
    with pytest.raises(ConfigError, match="no direction named 'c2d'"):
        read_generator(run, "c2d")
    with pytest.raises(ModelError, match="no such checkpoint"):
        read_generator(tmp_path / "none.pt", "a2b")


def test_compare_counts_gray_levels() -> None:
    black, gray = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 2, np.uint8)
    equal, different = compare((4, 4), [(black, black)], "fp32"), compare((4, 4), [(black, gray), (gray, gray)], "fp32")
    assert (equal.max_abs, equal.psnr_db, equal.passed) == (0, float("inf"), True)
    assert (different.max_abs, different.mean_abs, different.passed, different.frames) == (2, 1.0, False, 2)
    assert different.psnr_db == pytest.approx(10 * np.log10(255**2 / 2))


def test_center_crop_resize_crops_to_the_aspect_ratio_and_resizes() -> None:
    frame = moving_frames(1, 60, 40)[0]
    assert center_crop_resize(frame, 131, 97).shape == (97, 131, 3)
    np.testing.assert_array_equal(center_crop_resize(frame, 40, 40), frame[:, 10:50])


def test_a_checkpoint_outside_its_run_folder_is_enough(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.pt"
    moved.write_bytes((run / "checkpoint.pt").read_bytes())
    trained = read_generator(moved, "b2a")
    assert isinstance(trained, TrainedGenerator)
    assert len(trained.frames) == 6 and trained.frames[0].shape == (40, 40, 3)
