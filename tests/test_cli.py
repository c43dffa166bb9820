"""The commands as people and scripts use them: real files, exit codes, one clear line for an error, one JSON object."""

from __future__ import annotations

import itertools
import json
import logging
import math
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import cyclecast
from cyclecast import isolated
from cyclecast.card import description_from_card, license_from_card, row_from_card
from cyclecast.cli.console import open_model
from cyclecast.contact_sheet import CAPTION, read_first_frame
from cyclecast.debug import disable_debug_log
from cyclecast.demo import render_scene
from cyclecast.runtime.model import bundled_models
from cyclecast.training.log import LossLog
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.writer import VideoWriter
from cyclecast.video.frame import Color, Frame, StreamInfo
from cyclecast.video.scene import Scene
from tests.commands import PROGRAM, json_of, run_command, run_program
from tests.conftest import moving_frames


def test_version() -> None:
    assert run_program("--version").stdout == f"cyclecast {cyclecast.__version__}\n"


@pytest.fixture
def quiet() -> Iterator[None]:
    """No debug log before and after the test."""
    disable_debug_log()
    yield
    disable_debug_log()


@pytest.mark.parametrize("where", ["before", "after", "environment", "nowhere"])
def test_debug_prints_the_traceback_of_an_error(where: str, quiet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["export", tmp_path / "none.onnx", "-o", tmp_path / "out.onnx"]
    if where == "environment":
        monkeypatch.setenv("CYCLECAST_DEBUG", "1")
    done = run_command(*["--debug"] * (where == "before"), *words, *["--debug"] * (where == "after"))
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: ")
    assert ("Traceback" in done.stderr) == (where != "nowhere")
    assert ("cyclecast.errors." in done.stderr) == (where != "nowhere")


def test_every_command_accepts_debug_before_and_after_its_name(quiet: None) -> None:
    from tests.test_help import COMMANDS

    for name in COMMANDS:
        assert run_command("--debug", name, "--help").returncode == 0
        assert any("--debug" in parameter.opts for parameter in COMMANDS[name].params), name


def test_the_debug_log_has_the_traceback_of_an_isolated_process(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "cyclecast"):
        failure = isolated.call(json.loads, "{broken", seconds=60).failure
    assert failure is not None and failure.startswith("JSONDecodeError")
    assert "Traceback" in caplog.text and "raw_decode" in caplog.text


def test_a_live_source_logs_its_traceback(quiet: None, tiny_model: Path) -> None:
    done = run_command("live", "pattern://1x1", "-m", tiny_model, "--sink", "null", "--debug")
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: ")
    assert "capture process: Traceback" in done.stderr  # the traceback of the isolated process, too


def test_convert_a_clip(clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    got = json_of("convert", clip, out, "--model", tiny_model)
    assert set(got) >= {
        "frames",
        "seconds",
        "fps",
        "engine",
        "device",
        "precision",
        "output",
        "audio",
        "resumed_frames",
        "stages_ms",
    }
    assert (got["frames"], got["audio"], got["engine"], got["output"]) == (12, "copied", "openvino", str(out))
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12


def test_auto_prints_its_choice(clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    done = run_command("convert", clip, tmp_path / "out.mp4", "--model", tiny_model)
    assert done.returncode == 0 and done.stdout == ""
    assert "tiny on openvino" in done.stderr and "12 frames" in done.stderr


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_engines_output_the_same_video(engine: str, clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    got = json_of("convert", clip, tmp_path / "out.mp4", "-m", tiny_model, "--engine", engine, "--precision", "fp32", "--crf", 1)
    assert (got["engine"], got["precision"]) == (engine, "fp32")
    with cyclecast.load(tiny_model, "onnxruntime") as model:
        cyclecast.convert(clip, tmp_path / "same.mp4", model, ConvertOptions(crf=1))
    for one, other in zip(frames(tmp_path / "out.mp4"), frames(tmp_path / "same.mp4"), strict=True):
        assert np.abs(one.astype(int) - other).mean() < 1


def frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def test_a_batch_continues_after_a_bad_file(clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "good.mp4").write_bytes(clip.read_bytes())
    (folder / "bad.mp4").write_text("no video")
    cv2.imwrite(str(folder / "sub" / "photo.png"), moving_frames(1)[0])
    done = run_command("convert", folder, tmp_path / "out", "--model", tiny_model, "--json")
    assert done.returncode == 1
    files = {Path(f["source"]).name: f for f in json.loads(done.stdout)["files"]}
    assert "cannot be read as a video" in files["bad.mp4"]["error"]
    assert files["good.mp4"]["frames"] == 12 and files["photo.png"]["frames"] == 1
    made = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert made == [".cyclecast-batch.jsonl", "good.mp4", "sub/photo.png"]
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr


def test_bad_input_is_an_error_in_one_line_and_leaves_no_file(clip: Path, tiny_model: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "there.mp4").write_text("precious")
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "out.mp4"
    cases: list[tuple[tuple[object, ...], str]] = [
        (("convert", tmp_path / "none.mp4", out, "-m", tiny_model), "none.mp4: no such file"),
        (("convert", tmp_path / "text.mp4", out, "-m", tiny_model), "text.mp4: cannot be read as a video"),
        (("convert", tmp_path / "empty", tmp_path / "o", "-m", tiny_model), "no images or videos in this folder"),
        (("convert", clip, out, "-m", tmp_path / "text.onnx"), "not a model cyclecast can run"),
        (("convert", clip, out, "-m", "manet"), "manet: no such file, and no bundled model of that name"),
        (("convert", clip, tmp_path / "there.mp4", "-m", tiny_model), "exists already; --overwrite replaces it"),
        (("convert", clip, tmp_path / "file" / "o.mp4", "-m", tiny_model), "cannot be written"),
        (("convert", clip, out, "-m", tiny_model, "--engine", "tensorflow"), "no engine named 'tensorflow'"),
        (("convert", clip, out, "-m", tiny_model, "--device", "cuda:0"), "not on 'cuda:0'"),
        (("convert", clip, out, "-m", tiny_model, "--codec", "mpeg99"), "no codec named"),
        (("export", tmp_path / "none.pt", "-o", tmp_path / "m.onnx"), "no such checkpoint"),
        (("export", run, "-o", tmp_path / "m.onnx", "--size", "big"), "a size is WIDTHxHEIGHT or dynamic"),
        (("train", "dogan", "--out", tmp_path / "r"), "no recipe named 'dogan'"),
        (("train", "cyclegan", "--out", tmp_path / "r", "--data", tmp_path / "empty"), "neither trainA and trainB in it"),
        (("train", "cyclegan", "--out", tmp_path / "r", "--set", "ngf"), "--set expects key=value"),
        (("train", "cyclegan", "--out", tmp_path / "r", "--resume"), "no such checkpoint"),
        (("bench", "-m", tiny_model, "--engine", "tensorflow"), "no engine named 'tensorflow'"),
        (("bench", "-m", tiny_model, "--device", "cuda:0", "--engine", "openvino"), "not on 'cuda:0'"),
        (("bench", "-m", tiny_model, "--size", "dynamic"), "a size is WIDTHxHEIGHT, got 'dynamic'"),
        (("bench", "-m", tiny_model, "--size", "8x8"), "frames start at 16x16, got 8x8"),
        (("models", "manet"), "no such file, and no bundled model"),
        (("demo", "--out", tmp_path / "file" / "d", "-m", tiny_model), "cannot be written"),
        (("train", "gan", "--out", tmp_path / "r", "--data", tmp_path / "empty", "--seed", -1), "seed must be from 0"),
    ]
    for args, message in cases:
        done = run_command(*args)
        assert done.returncode == 1, (args, done)
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: ") and message in last, (args, done.stderr)
        assert "Traceback" not in done.stderr
        assert sorted(tmp_path.rglob("*")) == before, args
    done = run_program("convert", clip, out, "-m", "manet")  # the installed program, too
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stderr.startswith("error: manet: no such file")
    assert (tmp_path / "there.mp4").read_text() == "precious"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_conversion_stopped_before_its_first_part_leaves_no_file(number: int, tiny_model: Path, tmp_path: Path) -> None:
    info = StreamInfo(320, 180, Fraction(25), Fraction(1, 25), None, Color(), Fraction(1))
    with VideoWriter(tmp_path / "long.mp4", info, Encoding("h264", preset="ultrafast")) as writer:
        for pts, image in enumerate(moving_frames(10, 320, 180) * 60):
            writer.write(Frame(image, pts, 1))
    out = tmp_path / "out"
    process = subprocess.Popen(
        [
            str(PROGRAM),
            "convert",
            str(tmp_path / "long.mp4"),
            str(out / "long.mp4"),
            "-m",
            str(tiny_model),
            "--preset",
            "veryslow",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(out.glob(".long.mp4.cyclecast/open-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == f"error: {out / 'long.mp4'}: interrupted"
    assert list(out.iterdir()) == []


def test_damage_is_reported_and_the_rest_is_kept(tiny_model: Path, tmp_path: Path) -> None:
    render_scene(tmp_path / "whole.mp4", Scene(96, 64, seconds=2))
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    done = run_command("convert", tmp_path / "cut.mp4", tmp_path / "out.mp4", "-m", tiny_model, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and "of 50 frames are missing" in report["damage"]
    assert 5 < report["frames"] < 50 and len(frames(tmp_path / "out.mp4")) == report["frames"]
    assert done.stderr.splitlines()[-1].startswith("error: ") and "what can be decoded is in" in done.stderr


def test_a_folder_reports_a_list_even_of_one_file(clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(clip.read_bytes())
    files = json_of("convert", tmp_path / "in", tmp_path / "out", "-m", tiny_model)["files"]
    assert isinstance(files, list) and [f["frames"] for f in files] == [12]


def test_wrong_usage_has_exit_code_2() -> None:
    assert run_command("convert", "one").returncode == 2
    assert run_command("dance").returncode == 2


def test_train_resume_export_convert(domains: Path, clip: Path, tmp_path: Path) -> None:
    small = ["generator=resnet6", "ngf=4", "ndf=4", "load_size=40", "crop_size=32", "upsample=resize", "precision=fp32"]
    settings = [part for setting in small for part in ("--set", setting)]
    run = tmp_path / "run"
    trained = json_of("train", "cyclegan", "--data", domains, "--out", run, "--steps", 3, *settings)
    assert (
        set(trained) == {"steps", "seconds", "pairs_per_second", "losses", "checkpoint", "page", "stop_requested"}
        and trained["steps"] == 3
    )
    further = json_of("train", "cyclegan", "--out", run, "--steps", 4, "--resume")  # settings come from the checkpoint
    assert further["steps"] == 4
    exported = json_of("export", run, "-o", tmp_path / "mine.onnx", "--direction", "b2a", "--size", "64x48")
    assert [(comparison["size"], comparison["passed"]) for comparison in exported["verified"]] == [([64, 48], True)]
    converted = json_of("convert", clip, tmp_path / "mine.mp4", "--model", tmp_path / "mine.onnx")
    assert (converted["frames"], converted["audio"]) == (12, "copied")


def test_train_on_a_file_of_digits(digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = [part for setting in ("batch_size=4", "image_size=8", "latent=4", "precision=fp32") for part in ("--set", setting)]
    trained = json_of("train", "gan", "--data", digits, "--out", run, "--steps", 2, *small)
    assert (trained["steps"], trained["checkpoint"], trained["page"]) == (2, str(run / "checkpoint.pt"), str(run / "index.html"))
    losses = trained["losses"]
    assert isinstance(losses, dict) and set(losses) == {"generator", "discriminator"}


def test_train_on_a_folder_of_pairs(side_by_side: Path, tmp_path: Path) -> None:
    settings = ["generator=resnet6", "ngf=2", "ndf=2", "load_size=40", "crop_size=32", "direction=b2a", "precision=fp32"]
    small = [part for setting in settings for part in ("--set", setting)]
    trained = json_of("train", "pix2pix", "--data", side_by_side, "--out", tmp_path / "run", "--steps", 2, *small)
    losses = trained["losses"]
    assert isinstance(losses, dict) and set(losses) == {"adversarial", "paired", "discriminator"}
    sheet = cv2.imread(str(tmp_path / "run" / "b2a.jpg"))
    assert sheet is not None and sheet.shape[0] == 2 * 80 and sheet.shape[1] >= 4 * 80  # the four of val, and what came of them


def training_of(domains: Path, out: Path) -> list[str]:
    """Returns the arguments of 14 steps, in the precision of this machine's CPU."""
    small = ["generator=resnet6", "ngf=8", "ndf=8", "load_size=72", "crop_size=64", "upsample=resize", "augment=true"]
    settings = [part for setting in [*small, "log_every=1", "tensorboard=false"] for part in ("--set", setting)]
    return ["train", "cyclegan", "--data", str(domains), "--steps", "14", *settings, "--out", str(out)]


STOPPED = re.compile(r"error: stopped at step \d+ of 14, saved; .*--resume")


def stop_program_after(steps: int, arguments: list[str], out: Path) -> None:
    """Starts the program, sends it Ctrl-C after this step and checks its end."""
    process = subprocess.Popen([str(PROGRAM), *arguments], stderr=subprocess.PIPE, text=True)
    log, deadline = out / "losses.jsonl", time.monotonic() + 60
    while (not log.exists() or log.read_text().count("\n") < steps) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and STOPPED.fullmatch(errors.splitlines()[-1])


def stop_command_after(steps: int, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the command in this process, sends it SIGTERM after so many steps and checks its end."""
    add, count = LossLog.add, itertools.count(1)

    def add_and_stop(log: LossLog, step: int, losses: dict[str, float]) -> None:
        add(log, step, losses)
        if next(count) == steps:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(LossLog, "add", add_and_stop)
        done = run_command(*arguments)
    assert done.returncode == 130 and STOPPED.fullmatch(done.stderr.splitlines()[-1])


@pytest.mark.slow
def test_training_that_is_stopped_and_resumed_ends_with_the_same_weights(
    domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    resume = ["train", "cyclegan", "--out", str(parts), "--resume"]
    stop_program_after(4, training_of(domains, parts), parts)
    stop_command_after(2, resume, monkeypatch)
    assert json_of(*resume)["steps"] == 14
    assert json_of(*training_of(domains, whole))["steps"] == 14

    expected, got = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (whole, parts))
    assert expected["precision"] == got["precision"]  # bf16 on CPUs that compute it
    for network, weights in expected["networks"].items():
        assert all(torch.equal(value, got["networks"][network][key]) for key, value in weights.items())


def test_demo(tiny_model: Path, tmp_path: Path) -> None:
    got = json_of("demo", "--out", tmp_path / "d", "--model", tiny_model, "--seconds", 0.2)
    assert (got["frames"], got["audio"]) == (5, "copied")
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["before-after.jpg", "lake-tiny.mp4", "lake.mp4"]
    image = cv2.imread(str(got["before_after"]))
    assert image is not None and image.shape == (540, 1920, 3)
    again = run_command("demo", "--out", tmp_path / "d", "--model", tiny_model)
    assert again.returncode == 1 and "exists already" in again.stderr
    table = run_command("demo", "--out", tmp_path / "d", "--model", tiny_model, "--seconds", 0.2, "--overwrite").stdout
    for row in ("engine", "openvino", "960x540", "frames per second", "before and after"):
        assert row in table


def test_bench(tiny_model: Path) -> None:
    got = json_of("bench", "--model", tiny_model, "--size", "64x48", "--frames", 2)
    assert (got["model"], got["size"]) == ("tiny", "64x48") and "core" in str(got["machine"])
    rows = got["rows"]
    assert isinstance(rows, list) and {"openvino", "onnxruntime"} <= {row["engine"] for row in rows}
    for row in rows:
        assert set(row) == {"engine", "device", "precision", "ms", "fps", "psnr_db"}
        assert set(row["ms"]) == {"p50", "p95", "p99"} and row["fps"] > 0
        assert (row["psnr_db"] is None) == (row["precision"] == "fp32")  # equal to itself: infinite, which JSON cannot say


def test_bench_runs_the_requested_engines_alone(tiny_model: Path) -> None:
    done = run_command("bench", "-m", tiny_model, "--size", "64x48", "--frames", 2, "--engine", "onnxruntime")
    assert done.returncode == 0 and done.stdout == ""
    assert "tiny, 64x48, 2 frames" in done.stderr and "onnxruntime fp32" in done.stderr and "openvino" not in done.stderr


def test_the_build_of_a_plan_is_reported(capsys: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    with open_model(str(tiny_model), "openvino", "auto", "auto") as model:
        assert model.engine.on_build is not None
        for share in (0.0, 0.1, 0.19, 0.45, 0.79, 1.0):
            model.engine.on_build(share)
    lines = [line for line in capsys.readouterr().err.splitlines() if "building a plan" in line]
    assert [line.rsplit(": ", 1)[1] for line in lines] == ["0 %", "40 %", "60 %", "100 %"]


def test_models_lists_times_and_describes(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"pencil": bundled_models()["pencil"]}  # each takes a second to time
    monkeypatch.setattr("cyclecast.runtime.model.bundled_models", lambda: one)
    rows = json_of("models")["models"]
    assert [row["name"] for row in rows] == ["pencil"] and rows[0]["ms_at_1280x720"] > 1
    assert "# pencil" in run_command("models", "pencil").stdout


def test_models_shows_a_line_of_each_card() -> None:
    monet = next(row for row in json_of("models", "--no-bench")["models"] if row["name"] == "monet")
    assert monet["description"] == "Paints video like Claude Monet: broken dabs of color."
    assert monet["bytes"] > 100_000 and Path(monet["path"]).is_file() and monet["ms_at_1280x720"] is None
    shown = run_command("models", "--no-bench")
    assert shown.returncode == 0 and "Apache-2.0" in shown.stdout and "pencil" in shown.stdout


def test_a_card_names_its_license_or_none() -> None:
    assert license_from_card("# a\n\n| license | CC BY 4.0 |\n") == "CC BY 4.0"
    assert license_from_card("**Licence:** Apache-2.0\n") == "Apache-2.0"
    assert license_from_card("# a\n\nThe license of the data is unknown.\n") is None
    assert row_from_card("# a\n\n| author | A. Hacker |\n| license | CC0 |\n", "author") == "A. Hacker"
    assert description_from_card("# a\n\n![x](y.jpg)\n\nPaints\nit. And more.\n") == "Paints it."
    assert description_from_card("") == ""


def test_models_tries_all_on_an_image_or_a_video(clip: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), moving_frames(1, 96, 64)[0])
    names = [row["name"] for row in json_of("models", "--no-bench")["models"]]
    for source in (tmp_path / "photo.png", clip):
        done = json_of("models", "--try", source, "-o", tmp_path / "sheet.png", "--overwrite")
        assert done == {"output": str(tmp_path / "sheet.png"), "models": names}
        sheet = read_first_frame(tmp_path / "sheet.png")
        height, width = read_first_frame(source).shape[:2]
        columns = math.ceil(math.sqrt(1 + len(names)))
        assert sheet.shape == ((height + CAPTION) * math.ceil((1 + len(names)) / columns), width * columns, 3)
        np.testing.assert_array_equal(sheet[CAPTION : CAPTION + height, :width], read_first_frame(source))
        second = sheet[CAPTION : CAPTION + height, width : 2 * width]
        assert np.abs(second.astype(int) - read_first_frame(source)).mean() > 1


def test_a_sheet_that_cannot_be_made_is_one_line(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "there.jpg").write_bytes(b"precious")
    (tmp_path / "text.txt").write_text("no image")
    for source, output, message in (
        (clip, "there.jpg", "exists already; --overwrite replaces it"),
        (clip, "sheet.doc", "sheet.doc: no image format of that name"),
        (tmp_path / "none.jpg", "sheet.jpg", "none.jpg: no such file"),
        (tmp_path / "text.txt", "sheet.jpg", "text.txt: cannot be read as a video"),
    ):
        done = run_command("models", "--try", source, "-o", tmp_path / output)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and message in done.stderr, done.stderr
    assert run_command("models", "--try", clip).returncode == 2
    assert (tmp_path / "there.jpg").read_bytes() == b"precious" and not (tmp_path / "sheet.jpg").exists()


def test_api(clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    with cyclecast.load(tiny_model, engine="onnxruntime") as model:
        assert model.spec.recipe == "cyclegan" and model.engine.name == "onnxruntime"
        styled = model(moving_frames(1)[0])
        assert styled.shape == (48, 64, 3)
        assert cyclecast.convert(clip, tmp_path / "a.mp4", model).frames == 12
    assert cyclecast.convert(str(clip), str(tmp_path / "b.mp4"), tiny_model).audio == "copied"
