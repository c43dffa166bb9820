"""What `cyclecast style` reads: bad input is one line that leaves nothing, and inputs are never replaced."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import onnx
import pytest
import torch

import cyclecast
from cyclecast.cli.style import log_progress
from cyclecast.export.onnx import export_onnx
from cyclecast.style import StyleOptions, make_style
from cyclecast.style import teacher as style_teacher
from cyclecast.style.footage import count_packets, extract_frames, list_footage, sample_frames
from cyclecast.style.looks import Pairs, Teacher, read_look
from cyclecast.style.stills import read_opaque
from cyclecast.style.teacher import convert_teacher
from cyclecast.training.config import load_config
from cyclecast.training.recipes.style_transfer import StyleTransferConfig, read_style_images
from cyclecast.video.scene import Scene
from tests.commands import run_command
from tests.export.originals import output_of, psnr, resnet, with_contrast
from tests.style.conftest import read


@pytest.fixture
def bad(photos: Path, negatives: Path, tmp_path: Path) -> dict[str, list[object]]:
    """Returns, by name, the arguments of commands that must fail in one line."""
    tiny, noise, one, sizes, empty = (tmp_path / name for name in ("tiny.png", "noise.png", "one", "sizes", "empty"))
    for folder in (one, sizes, empty):
        folder.mkdir()
    (empty / "notes.txt").write_text("no image")
    cv2.imwrite(str(tiny), np.zeros((40, 60, 3), np.uint8))
    noise.write_bytes(b"\x89PNG not really")
    damaged, movie, broken = tmp_path / "damaged.jpg", tmp_path / "movie.mp4", tmp_path / "broken"
    cv2.imwrite(str(damaged), np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
    damaged.write_bytes(damaged.read_bytes()[:-5000])
    movie.write_bytes(b"")
    shutil.copytree(photos, broken)
    (broken / "3.png").write_bytes(b"no image")
    cv2.imwrite(str(one / "a.png"), np.zeros((200, 200, 3), np.uint8))
    for path in photos.iterdir():
        cv2.imwrite(str(sizes / path.name), np.zeros((100, 100, 3), np.uint8))
    image_file = one / "a.png"
    return {
        "too small": [tiny, "--footage", photos],
        "cannot be read as an image": [noise, "--footage", photos],
        "it is damaged": [damaged, "--footage", photos],
        "save a frame of it": [movie, "--footage", photos],
        "3.png: cannot be read as an image; repair it or remove the pair": ["--pairs", photos, broken],
        "the same folder": ["--pairs", photos, photos],
        "no bundled model of that name": ["missing.onnx", "--footage", photos],
        "cannot be read as a video": [image_file, "--footage", empty / "notes.txt"],
        "are for a generator": [image_file, "--footage", photos, "--teacher-scale", 0.5],
        "--minutes must be": [image_file, "--footage", photos, "--minutes", "nan"],
        "expected at least 2": [one, "--footage", photos],
        "one size": ["--pairs", photos, sizes],
        "no file names in common": ["--pairs", photos, one],
        "no images and no videos": [image_file, "--footage", empty],
        "no such file or folder": [image_file, "--footage", tmp_path / "missing"],
        "expected --footage": [image_file],
        "expected a LOOK": ["--footage", photos],
        "got both": [image_file, "--footage", photos, "--minutes", 5, "--steps", 5],
        "expected one generator": ["monet", "ukiyoe", "--footage", photos],
        "either LOOK or --pairs": [image_file, "--pairs", photos, negatives],
    }


def test_bad_input_is_one_line_and_leaves_nothing(bad: dict[str, list[object]], tmp_path: Path) -> None:
    for reason, arguments in bad.items():
        done = run_command("style", *arguments, "-o", tmp_path / "out.onnx")
        lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert done.returncode == 1 and len(lines) == 1 and reason in lines[0], (reason, done.stderr)
        assert not (tmp_path / "out.onnx").exists() and not (tmp_path / "out.style").exists(), reason


def test_a_classifier_and_a_latent_model_are_refused_as_teachers(photos: Path, tmp_path: Path) -> None:
    scores = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 3, 1, 1])
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 224, 224])
    graph = onnx.helper.make_graph([onnx.helper.make_node("GlobalAveragePool", ["image"], ["scores"])], "c", [image], [scores])
    path = tmp_path / "classifier.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), str(path))
    latent = Path(__file__).parents[1] / "golden" / "models" / "latent.onnx"
    done = run_command("style", latent, "--footage", photos, "-o", tmp_path / "out.onnx")
    assert done.returncode == 1 and "latent.onnx: a latent model" in done.stderr
    done = run_command("style", path, "--footage", photos, "-o", tmp_path / "out.onnx")
    assert done.returncode == 1 and "classifier.onnx: its output is 1x1" in done.stderr
    assert not (tmp_path / "out.style").exists()


def test_of_several_generators_a_key_chooses_the_teacher(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style_teacher, "export_onnx", partial(export_onnx, size=(96, 96)))  # faster than for any size
    originals = [with_contrast(resnet(1, 2), seed=seed) for seed in (1, 2)]
    path, frame = tmp_path / "last.ckpt", Scene(96, 96).draw(1.0)
    torch.save({name: network.state_dict() for name, network in zip(("G_AB", "G_BA"), originals, strict=True)}, path)
    for arguments, reason in (
        ([], f"{path}: holds 2 generators, G_AB (a2b), G_BA (b2a): choose one with --key, such as --key G_AB"),
        (["--key", "D_A"], f"{path}: no generator named 'D_A': it holds G_AB (a2b), G_BA (b2a)"),
    ):
        done = run_command("style", path, "--footage", photos, "-o", tmp_path / "out.onnx", *arguments)
        lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert (done.returncode, lines) == (1, [f"error: {reason}"])
        assert not (tmp_path / "out.style").exists()
    messages: list[str] = []
    model = convert_teacher(Teacher(path), tmp_path / "teacher.onnx", [frame], key="G_BA", on_message=messages.append)
    with cyclecast.load(model, engine="onnxruntime", precision="fp32") as teacher:
        assert psnr(teacher(frame), output_of(originals[1], frame)) >= 48
    assert "last.ckpt: key G_BA: as requested" in messages
    with pytest.raises(cyclecast.ConfigError, match="--key is for a .pth that holds several generators, not for"):
        convert_teacher(Teacher(model), tmp_path / "other.onnx", [frame], key="G_BA")


def test_no_output_replaces_an_input(photos: Path, tmp_path: Path) -> None:
    look = tmp_path / "starry.jpg"
    cv2.imwrite(str(look), np.zeros((200, 200, 3), np.uint8))
    before = look.read_bytes()
    for looks, footage in (([look], [photos]), ([photos / "0.png"], [tmp_path])):
        with pytest.raises(cyclecast.OutputError, match=r"starry\.jpg: an input, which the sheet would replace"):
            make_style(looks, tmp_path / "starry.onnx", footage=footage, options=StyleOptions(overwrite=True))
    with pytest.raises(cyclecast.ConfigError, match="name the original files"):
        make_style([look], tmp_path / "x.onnx", footage=[tmp_path / "x.style" / "frames"], options=StyleOptions())
    assert look.read_bytes() == before


def test_transparent_parts_are_white_or_as_before(photos: Path, tmp_path: Path) -> None:
    frame = read(photos / "0.png")
    alpha = np.zeros(frame.shape[:2], np.uint8)
    alpha[:100] = 255
    path = tmp_path / "layer.png"
    cv2.imwrite(str(path), np.dstack([255 - frame, alpha]))
    assert np.array_equal(read_opaque(path)[:100], 255 - frame[:100]) and (read_opaque(path)[100:] == 255).all()
    assert np.array_equal(read_opaque(path, frame)[100:], frame[100:])


def test_extra_and_hidden_files_are_counted_or_left_out(photos: Path, negatives: Path, tmp_path: Path) -> None:
    after = tmp_path / "after"
    shutil.copytree(negatives, after)
    (after / "._0.png").write_bytes(b"hidden")
    (after / "0.png").rename(after / "x.png")
    look = read_look([], (photos, after))
    assert isinstance(look, Pairs) and len(look.rows) == 5
    assert {Path(reason.partition(":")[0]).name for reason in look.skipped} == {"x.png", "0.png"}


def test_footage_is_spread_evenly_and_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    """Also of a live recording, whose header has no number of frames."""
    video = tmp_path / "footage" / "live.ts"
    video.parent.mkdir()
    with av.open(str(video), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        for index in range(30):
            image = np.full((80, 96, 3), 8 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode(None))
    levels = [round(frame.mean() / 8) for frame in sample_frames(video, 3)]
    assert levels == [0, 10, 20]
    assert count_packets(video) == 30
    for index in range(5):
        (video.parent / f"{index}.jpg").write_bytes(b"no image")
    messages: list[str] = []
    paths = list_footage([video.parent, video])
    assert extract_frames(paths, tmp_path / "frames", lambda *_: None, messages.append) == 30
    assert len(messages) == 4 and messages[-1] == "skipped 2 more files"


def test_style_images_that_cannot_be_read_are_an_input_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    folders = {"domain_a": photos, "domain_b": tmp_path, "out": tmp_path / "run"}
    with pytest.raises(cyclecast.InputError, match="none of its 1 image files can be read"):
        read_style_images(load_config(StyleTransferConfig, settings=folders))


def test_a_log_gets_a_line_at_most_every_minute() -> None:
    lines: list[str] = []
    update = log_progress(lines.append)
    for done in range(100):
        update("training", done, 100)
    assert lines == []
    update = log_progress(lines.append, seconds=0)
    update("training", 7, 100)
    assert lines == ["training: 7 of 100"]
