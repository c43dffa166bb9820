"""Encoders get valid options, software encodes, and missing hardware is an error or falls back to software."""

from __future__ import annotations

import io
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np
import pytest

from cyclecast.errors import ConfigError, EngineUnavailable
from cyclecast.video.files import codecs, decoders
from cyclecast.video.files.codecs import av_requirement, choose_encoder, encode_each, is_listed, may_be_present
from cyclecast.video.files.decoders import DEVICES, choose_decoder, decode_luma, encode_test_video, run_test_decode
from cyclecast.video.files.encoders import (
    ENCODERS,
    HARDWARE,
    PRESETS,
    SPEEDS,
    WORST,
    ChosenEncoder,
    hardware_of,
    known_encoders,
    ordinary_priority,
)

SIZE: dict[str, Any] = {"width": 320, "height": 240, "rate": Fraction(30)}
SOFTWARE = {codec: ENCODERS[codec].name for codec in WORST}  # those with a crf and presets
LISTED = [
    ChosenEncoder(codec, name, hardware_of(name))
    for codec, name in known_encoders()
    if is_listed(name) and (hardware_of(name) or name in SOFTWARE.values())
]
PRESENT = [name for name in (*HARDWARE, *DEVICES) if may_be_present(name)]
without_hardware = pytest.mark.skipif(bool(PRESENT), reason=f"needs a machine without {PRESENT}")
FAST_PRESETS = {"av1": "12", "vp9": "8"}


def encode_video(chosen: ChosenEncoder, options: dict[str, str], pix_fmt: str | None = None) -> bytes:
    """Encodes ten moving frames to Matroska."""
    file = io.BytesIO()
    form = chosen.pix_fmt(pix_fmt)
    with av.open(file, "w", format="matroska") as container:
        stream: Any = container.add_stream(chosen.name, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, form
        with ordinary_priority():
            stream.codec_context.open()
        noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
        for pts in range(10):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, pts, 1), format="bgr24").reformat(format=form)
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode_video(data: bytes) -> tuple[str, str, int]:
    """(codec, pixel format, number of frames) after decoding."""
    container: Any
    with av.open(io.BytesIO(data)) as container:
        context = container.streams.video[0].codec_context
        formats = [frame.format.name for frame in container.decode(video=0)]
        return context.codec.canonical_name, formats[0], len(formats)


@pytest.mark.parametrize("chosen", LISTED, ids=lambda chosen: chosen.name)
@pytest.mark.parametrize("crf", [None, 1, 51])
def test_the_encoder_has_every_option(chosen: ChosenEncoder, crf: int | None) -> None:
    context = av.CodecContext.create(chosen.name, "w")
    if not hasattr(context, "supported_options"):
        pytest.skip("PyAV lists them from 18 on")
    table = context.supported_options
    known = {option.name: option for option in (*table.generic, *table.private)}
    for preset in (None, *(SPEEDS if chosen.hardware in PRESETS else ())):
        for name, value in chosen.options(crf, preset, **SIZE).items():
            option = known[name]
            try:
                assert option.min == option.max == 0 or option.min <= float(value) <= option.max, (name, value)
            except ValueError:
                names = {choice.name for choice in option.choices}
                assert value.lstrip("+") in names or not names, (name, value)


@pytest.mark.parametrize("codec", SOFTWARE)
def test_software_encodes_with_crf_and_preset(codec: str) -> None:
    chosen = choose_encoder(codec, "software")
    sizes = []
    for crf in (10, 45):
        data = encode_video(chosen, chosen.options(crf, FAST_PRESETS.get(codec, "ultrafast"), **SIZE))
        assert decode_video(data) == (codec, "yuv420p", 10)
        sizes.append(len(data))
    assert sizes[0] > 1.5 * sizes[1], sizes
    assert decode_video(encode_video(chosen, chosen.options(**SIZE)))[2] == 10


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("codec", SOFTWARE)
def test_a_pixel_format_is_encoded_or_an_error(codec: str, pix_fmt: str) -> None:
    listed = {form.name for form in av.Codec(SOFTWARE[codec], "w").video_formats or ()}
    if pix_fmt not in listed:
        with pytest.raises(ConfigError, match=f"{SOFTWARE[codec]} accepts no {pix_fmt} pixels; it accepts yuv420p, "):
            choose_encoder(codec, "software", pix_fmt=pix_fmt)
        return
    chosen = choose_encoder(codec, "software", pix_fmt=pix_fmt)
    assert chosen.pix_fmt(pix_fmt) == pix_fmt
    assert decode_video(encode_video(chosen, chosen.options(preset=FAST_PRESETS.get(codec, "ultrafast"), **SIZE), pix_fmt)) == (
        codec,
        pix_fmt,
        10,
    )


def test_x264_and_x265_encode_444_and_ten_bits() -> None:
    for name in ("libx264", "libx265"):
        assert {"yuv444p", "yuv420p10le"} <= {form.name for form in av.Codec(name, "w").video_formats or ()}


@pytest.mark.parametrize("chosen", [chosen for chosen in LISTED if chosen.hardware], ids=lambda chosen: chosen.name)
def test_hardware_encoders_get_a_supported_pixel_format(chosen: ChosenEncoder) -> None:
    listed = [form.name for form in av.Codec(chosen.name, "w").video_formats or ()]
    assert chosen.pix_fmt() in (listed or ["yuv420p"])
    for form in ("yuv444p", "yuv420p10le"):
        try:
            assert chosen.pix_fmt(form) in listed
        except ConfigError:
            assert form not in listed
    assert "cuda" not in chosen.accepted_formats() and "bgra" not in chosen.accepted_formats()
    assert chosen.hwaccel() is None  # none in PyAV's wheels for Linux needs frames on the device


def test_invalid_crf_and_presets_are_an_error() -> None:
    for codec, name in SOFTWARE.items():
        with pytest.raises(ConfigError, match=f"{name} accepts a crf of . to {WORST[codec]}, got 64"):
            ChosenEncoder(codec, name).options(64, **SIZE)
    with pytest.raises(ConfigError, match="h264_nvenc has no preset '10'; it has p1, p2"):
        ChosenEncoder("h264", "h264_nvenc", "nvenc").options(preset="10", **SIZE)
    with pytest.raises(ConfigError, match="h264_v4l2m2m has no preset 'slow'; it has none"):
        ChosenEncoder("h264", "h264_v4l2m2m", "v4l2m2m").options(preset="slow", **SIZE)


def test_the_bit_rate_of_encoders_without_crf_follows_size_rate_and_crf() -> None:
    chosen = ChosenEncoder("h264", "h264_v4l2m2m", "v4l2m2m")
    bits = [
        int(chosen.options(crf, width=width, height=480, rate=rate)["b"])
        for crf, width, rate in ((None, 640, 30), (24, 640, 30), (None, 1280, 30), (None, 640, 60))
    ]
    assert bits == [bits[0], bits[0] // 2, 2 * bits[0], 2 * bits[0]]


@without_hardware
def test_missing_hardware_is_an_error_with_the_reason() -> None:
    for codec in ("h264", "hevc", "av1"):
        with pytest.raises(EngineUnavailable, match=rf"{codec}_nvenc does not encode 320x240 here \(Cannot load libcuda"):
            choose_encoder(codec, "nvenc")
    with pytest.raises(EngineUnavailable, match="this FFmpeg has no encoder vp9_nvenc; for this codec it has vp9_qsv"):
        choose_encoder("vp9", "nvenc")
    with pytest.raises(EngineUnavailable, match=r"cuda does not decode here \(Cannot load libcuda"):
        choose_decoder("cuda")
    with pytest.raises(EngineUnavailable, match="this FFmpeg does not decode on qsv; it has cuda"):
        choose_decoder("qsv")


def test_unknown_names_are_an_error() -> None:
    with pytest.raises(ConfigError, match="no codec named 'mpeg99'; there are: h264, hevc, av1, vp9"):
        choose_encoder("mpeg99")
    with pytest.raises(ConfigError, match="no encoders named 'gpu'; there are: auto, software, nvenc"):
        choose_encoder("h264", "gpu")
    with pytest.raises(ConfigError, match="no decoders named 'nvenc'; there are: auto, software, cuda"):
        choose_decoder("nvenc")


@without_hardware
def test_auto_without_hardware_chooses_software_and_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", None)
    for codec, name in SOFTWARE.items():
        assert choose_encoder(codec).description() == f"{name} in software"
    chosen = choose_decoder()
    assert (chosen.description(), chosen.hwaccel()) == ("software", None)


@without_hardware
def test_auto_skips_hardware_that_fails_and_reports_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "may_be_present", lambda hardware: True)
    chosen = choose_encoder("h264", size=(64, 48))
    assert chosen.name == "libx264"
    assert chosen.description().startswith("libx264 in software (nvenc: Cannot load libcuda.so.1; qsv: Error")
    monkeypatch.setattr(decoders, "may_be_present", lambda hardware: True)
    assert choose_decoder().description() == "software (cuda: Cannot load libcuda.so.1)"


def test_auto_chooses_the_first_hardware_that_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def test_once(name: str, pix_fmt: str | None, size: tuple[int, int]) -> str | None:
        return None if name == "h264_qsv" and pix_fmt is None else "No device."

    monkeypatch.setattr(codecs, "may_be_present", lambda hardware: True)
    monkeypatch.setattr(codecs, "_test_once", test_once)
    chosen = choose_encoder("h264")
    assert chosen.description() == "h264_qsv in hardware (nvenc: No device)" and chosen.pix_fmt() == "nv12"
    assert choose_encoder("h264", pix_fmt="yuv444p").name == "libx264"  # qsv does not support it and is not tested


def test_hardware_is_detected_from_its_device_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert not any(may_be_present(name, tmp_path) for name in (*HARDWARE, *DEVICES))
    camera = tmp_path / "sys/class/video4linux/video0"
    camera.mkdir(parents=True)
    (camera / "name").write_text("HD Webcam\n")
    assert not may_be_present("v4l2m2m", tmp_path)
    (camera / "name").write_text("bcm2835-codec-encode\n")
    (tmp_path / "dev/dri").mkdir(parents=True)
    (tmp_path / "dev/dri/renderD128").touch()
    present = {name for name in HARDWARE if may_be_present(name, tmp_path)}
    assert present == {"v4l2m2m", "qsv", "vaapi", "amf", "vulkan"}
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert [name for name in HARDWARE if may_be_present(name)] == ["videotoolbox", "vulkan"]


def test_the_encoder_test_uses_the_size_and_the_pixel_format() -> None:
    assert encode_each(["libx264", "libx265"], "yuv420p10le", (98, 66)) == [None, None]
    (failure,) = encode_each(["libx264"], "yuv411p")
    assert failure is not None and failure.startswith("libx264 accepts no yuv411p pixels")


def test_the_decoder_test_compares_distinct_frames() -> None:
    for encoder in ("libx264", "libx265"):
        frames = decode_luma(encode_test_video(encoder), None)
        assert len(set(frames)) == 5 and {len(frame) for frame in frames} == {320 * 240}
    if "cuda" not in PRESENT:
        assert run_test_decode("cuda") == "Cannot load libcuda.so.1"
    assert run_test_decode("qsv")  # `av.open` has no decoder for it


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux")
@pytest.mark.parametrize("name", SOFTWARE.values())
def test_no_encoder_raises_its_thread_priority(name: str) -> None:
    with ordinary_priority():
        context: Any = av.CodecContext.create(name, "w")
        context.width, context.height, context.pix_fmt, context.framerate = 320, 240, "yuv420p", Fraction(30)
        context.open()
    policies = {thread: os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
    assert set(policies.values()) == {os.SCHED_OTHER}, policies


def test_ffmpeg_logging_is_off_after_an_encoder_test() -> None:
    assert encode_each(["libx264", "h264_nvenc"])[0] is None
    assert av.logging.get_level() is None  # otherwise closing a codec may deadlock with one of its threads


def test_the_required_version_of_pyav_is_stated_in_the_package_alone() -> None:
    stated = re.search(r'"(av[^"]+)"', Path(__file__, "../../../../pyproject.toml").resolve().read_text())
    assert stated is not None
    assert set(av_requirement()[2:].split(",")) == set(stated[1][2:].split(","))
    sources = Path(codecs.__file__).parents[2].rglob("*.py")
    assert [path.name for path in sources if re.search(r"'av[<>=]", path.read_text())] == []


def test_a_missing_encoder_is_an_error_with_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "is_listed", lambda name: False)
    line = re.escape(f"pip install --force-reinstall --only-binary av '{av_requirement()}'")
    with pytest.raises(EngineUnavailable, match=f"^this FFmpeg has no libx264: {line}$"):
        choose_encoder("h264", "software")
