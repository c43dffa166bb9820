"""Small but real test data: folders of images, a trained checkpoint, an exported model, clips with sound."""

from __future__ import annotations

import functools
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from filelock import FileLock

from cyclecast.video.convert.parts import PART_FRAMES
from cyclecast.video.files.encoding import Encoding
from cyclecast.video.files.muxer import assemble
from cyclecast.video.files.side_streams import SideStreams
from cyclecast.video.files.time_range import TimeRange
from cyclecast.video.files.writer import VideoWriter
from cyclecast.video.frame import Color, Frame, Image, StreamInfo
from cyclecast.video.scene import Scene, write_sound

# Bytecode is kept, whatever the shell says: four workers import every module, and the tests start many programs.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A background job of a shell ignores Ctrl-C, and `nohup` a hangup, and so do their children; the tests that send them need the
# default handlers.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

LONGEST_FILES = (  # the longest first: no worker of pytest-xdist gets one of them when the others have nothing left to do
    "test_cluster.py",
    "test_benchmarks.py",
    "test_verify.py",
    "test_cli.py",
    "test_live_sources.py",
    "test_recipes.py",
    "test_reproduce.py",
    "test_plans.py",
    "test_style.py",
    "test_evaluate_runs.py",
    "test_page.py",
    "test_docs.py",
    "test_engines.py",
    "test_damage.py",
    "test_adopt.py",
    "test_web_browser.py",
    "test_live_command.py",
    "test_processes.py",
    "test_reconnect.py",
    "test_export.py",
    "test_web_connections.py",
    "test_window.py",
    "test_live.py",
    "test_doctor.py",
    "test_more_generators.py",
    "test_torch_exports.py",
    "test_generators.py",
    "test_resume.py",
    "test_frame_sizes.py",
    "test_cut.py",
    "test_teachers.py",
    "test_sound.py",
    "test_color.py",
    "test_state_dicts.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Keeps pytest-xdist from sorting the files by their number of tests, which puts a few long tests last.

    Until the tests are collected, there is no garbage worth collecting: libraries keep what they import.
    """
    config.option.loadscopereorder = False
    gc.disable()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Prints how a worker of pytest-xdist ended that was not asked to: a negative number is that of a signal."""
    if error:
        try:
            how = f"ended with code {node.gateway._io.popen.wait(timeout=10)}"
        except subprocess.TimeoutExpired:
            how = "still runs, but does not answer"
        print(f"{node.gateway.id} {how}", file=sys.stderr)


def pytest_collection_finish() -> None:
    """Keeps the garbage collector from walking again and again over what the tests and libraries keep to the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    gc.enable()


def pytest_runtest_setup() -> None:
    """Lets torch's exporter reuse its tables of operators; it builds them anew for each export, half the time of a short one."""
    registration = sys.modules.get("torch.onnx._internal.exporter._registration")
    if registration is not None and not hasattr(registration.ONNXRegistry.from_torchlib, "cache_info"):
        registration.ONNXRegistry.from_torchlib = staticmethod(functools.cache(registration.ONNXRegistry.from_torchlib))
        operators = functools.cache(sys.modules["torch._export.utils"]._collect_all_valid_cia_ops)  # nobody registers more
        for module in ("torch.export.exported_program", "torch.export.decomp_utils"):
            sys.modules[module]._collect_all_valid_cia_ops = operators  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts `LONGEST_FILES` to the front."""
    ranks = {name: rank for rank, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


on_cuda = pytest.mark.skipif(
    "not __import__('torch').cuda.is_available()", reason="no NVIDIA GPU here"
)  # evaluated when a test needs it
LONG_FRAMES = 3 * PART_FRAMES + 10  # frames of the long clip
SHARED = Path(__file__).parent.parent.parent / "shared"


def shared(path: str) -> Path:
    """Returns the path of a file or folder of the shared data; skips the test if it is missing."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"shared/{path} is not here")
    return found


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled models go into a cache of the test session."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")  # the Vulkan driver in Debian's chromium


@pytest.fixture
def software_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets webgpu compute on SwiftShader, which needs no GPU, if it is installed and there is no GPU."""
    from cyclecast.runtime.engines.webgpu import ALLOW_SOFTWARE

    if SWIFTSHADER.exists() and not has_vulkan_gpu():
        monkeypatch.setenv("VK_DRIVER_FILES", str(SWIFTSHADER))
        monkeypatch.setenv(ALLOW_SOFTWARE, "1")


@cache
def has_vulkan_gpu() -> bool:
    """Returns whether Vulkan lists a GPU that webgpu can use."""
    from cyclecast.errors import EngineUnavailable
    from cyclecast.runtime.engines.webgpu import find_vulkan_adapter

    try:
        find_vulkan_adapter()
    except EngineUnavailable:
        return False
    return True


@pytest.fixture(scope="session")
def build_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """build_once(name, build): the file or folder that `build` writes. The first worker of pytest-xdist builds it for all."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "built-once"
    folder.mkdir(exist_ok=True)

    def path_of(name: str, build: Callable[[Path], object]) -> Path:
        path, done = folder / name, folder / f"{name}.done"
        with FileLock(folder / f"{name}.lock"):
            if not done.exists():
                build(path)
                done.touch()
        return path

    return path_of


BuildOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def domains(build_once: BuildOnce) -> Path:
    """trainA, trainB, testA, testB: frames of the demo's lake, and the same with red and blue exchanged."""

    def draw(root: Path) -> None:
        scene = Scene(width=96, height=64, seconds=1, rate=8)
        for name in ("trainA", "trainB", "testA", "testB"):
            (root / name).mkdir(parents=True)
            for index, frame in enumerate(scene):
                image = frame.image if name.endswith("A") else frame.image[..., ::-1]
                cv2.imwrite(str(root / name / f"{index}.png"), image)

    return build_once("domains", draw)


@pytest.fixture(scope="session")
def run(build_once: BuildOnce, domains: Path) -> Path:
    """The folder of a finished, very short CycleGAN run."""

    def train_briefly(out: Path) -> None:
        from cyclecast.training.loop import train

        train("cyclegan", tiny_config(domains, out, steps=2))

    return build_once("tiny-run", train_briefly)


def tiny_config(domains: Path, out: Path, **settings: object):  # type: ignore[no-untyped-def]
    """Builds the config of a CycleGAN whose steps take a moment.

    It trains in fp32, because engines compute bf16 in the same process; bf16 and signals are tested through the program.
    """
    from cyclecast.training.config import load_config
    from cyclecast.training.recipes.cyclegan import CycleGanConfig

    small: dict[str, object] = {
        "out": out,
        "domain_a": domains / "trainA",
        "domain_b": domains / "trainB",
        "generator": "resnet6",
        "ngf": 4,
        "ndf": 4,
        "upsample": "resize",
        "load_size": 40,
        "crop_size": 32,
        "pool_size": 2,
        "precision": "fp32",
        "augment": True,
    }
    return load_config(CycleGanConfig, settings=small | settings)


@pytest.fixture(scope="session")
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train and val: pairs in one image, a frame of the demo's lake on the left, its negative on the right."""
    root = tmp_path_factory.mktemp("pairs")
    for name in ("train", "val"):
        (root / name).mkdir()
        for index, frame in enumerate(Scene(width=64, height=48, seconds=1, rate=4)):
            cv2.imwrite(str(root / name / f"{index}.png"), np.concatenate([frame.image, 255 - frame.image], 1))
    return root


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 digits of 28x28 pixels, in the layout of mnist.npz."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    images = np.stack([cv2.resize(frame[..., 0], (28, 28)) for frame in moving_frames(32)])
    labels = np.arange(32) % 10
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return path


LATENT: dict[str, object] = {"image_size": 8, "latent": 4, "batch_size": 4}
TRANSLATION: dict[str, object] = {"generator": "resnet6", "load_size": 40, "crop_size": 32}
CONVOLUTIONS: dict[str, object] = {"ngf": 2, "ndf": 2}
SMALL_SETTINGS: dict[str, dict[str, object]] = {  # recipe -> settings with which a step takes a moment
    "gan": LATENT,
    "dcgan": LATENT | CONVOLUTIONS,
    "wgan": LATENT | CONVOLUTIONS | {"warm_up": False, "critic_steps": 2},
    "cyclegan": TRANSLATION | CONVOLUTIONS,
    "cut": TRANSLATION | CONVOLUTIONS,
    "pix2pix": TRANSLATION | CONVOLUTIONS,
    "cogan": TRANSLATION | CONVOLUTIONS | {"latent": 4, "batch_size": 2},
    "bigan": TRANSLATION | CONVOLUTIONS,
    "simgan": TRANSLATION | CONVOLUTIONS,
    "distill": TRANSLATION | {"generator": "frame"},
}


@pytest.fixture(scope="session")
def small_config(domains: Path, side_by_side: Path, digits: Path):  # type: ignore[no-untyped-def]
    """small_config(recipe, out, **settings): the config of a small run, 4 steps in fp32, with data of the right type."""
    from cyclecast.training.config import data_settings, load_config
    from cyclecast.training.recipes import RECIPES

    def config(recipe: str, out: Path, **settings: object):  # type: ignore[no-untyped-def]
        config_class = RECIPES[recipe].Config
        data = digits if "domain" in config_class.__dataclass_fields__ else side_by_side if recipe == "pix2pix" else domains
        common = {"out": out, "steps": 4, "precision": "fp32", "tensorboard": False}
        return load_config(config_class, settings=common | data_settings(config_class, data) | SMALL_SETTINGS[recipe] | settings)

    return config


def leaves(value: object, path: str = "") -> dict[str, object]:
    """Flattens a nested state to path -> tensor or number."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in leaves(item, f"{path}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for key, item in enumerate(value) for k, v in leaves(item, f"{path}/{key}").items()}
    return {path: value}


def different(one: Path, other: Path) -> list[str]:
    """Lists the paths at which the checkpoints of two runs differ, other than their folder and duration."""
    import torch

    from cyclecast.training import checkpoint

    left, right = (leaves(checkpoint.load(run / checkpoint.NAME)) for run in (one, other))

    def same(a: object, b: object) -> bool:
        return torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b

    differing = {key for key in left.keys() & right.keys() if not same(left[key], right[key])}
    return sorted((differing | left.keys() ^ right.keys()) - {"/config/out", "/seconds"})


FAMILIES: dict[str, dict[str, Any]] = {  # settings for `build_generator`: one small generator of each family
    "resnet": {"generator": "resnet", "blocks": 1, "ngf": 4},
    "resnet-resize": {"generator": "resnet", "blocks": 1, "ngf": 4, "upsample": "resize"},
    "resnet-batch": {"generator": "resnet", "blocks": 1, "ngf": 4, "norm": "batch"},
    "unet": {"generator": "unet", "downs": 5, "ngf": 4},
    "frame": {"generator": "frame", "width": 8, "blocks": 2},
    "frame-skip": {"generator": "frame", "width": 8, "blocks": 2, "skip": True},
}
# The families that `family_model` exports at any frame size: an export takes four times as long with free sizes. Norms and skip
# depend on no size, and what depends on one is the same in fp16, so that the others have `FIXED_SIZE`. `tiny_model` is a
# resnet-resize of any size, which test_export.py compares.
ANY_SIZE = (("resnet", "fp32"), ("unet", "fp32"), ("frame", "fp32"))
FIXED_SIZE = (192, 108)  # width, height
EXPORTED = [(family, "fp32") for family in FAMILIES] + [(family, "fp16") for family in FAMILIES if family != "frame-skip"]


@pytest.fixture(scope="session")
def family_model(build_once: BuildOnce):  # type: ignore[no-untyped-def]
    """family_model(family, precision): the frame model, for any size if in `ANY_SIZE`, with the weights of `family_network`."""

    def model(family: str, precision: str) -> Path:
        def export(path: Path) -> None:
            from cyclecast.export.checkpoints import TrainedGenerator
            from cyclecast.export.onnx import export_onnx

            trained = TrainedGenerator(family_network(family), "cyclegan", "a2b", FAMILIES[family], 0, [])
            size = None if (family, precision) in ANY_SIZE else FIXED_SIZE
            export_onnx(trained, path, size=size, precision=precision, check=False)

        return build_once(f"{family}-{precision}.onnx", export)

    return model


def family_network(family: str):  # type: ignore[no-untyped-def]
    """Builds a generator of this family with contrast: random weights, and norms with the statistics of two frames."""
    import torch

    from cyclecast.export.frame_graph import reference
    from cyclecast.training.networks import build_generator

    torch.manual_seed(0)
    network = build_generator(**FAMILIES[family])
    images = [torch.from_numpy(Scene(256, 256).draw(seconds)) for seconds in (0.0, 2.0)]
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            norm.momentum = None  # plain mean over all batches
        for image in images:
            network.train()(image.flip(2).permute(2, 0, 1)[None] / 127.5 - 1)
        last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d)][-1]
        while min(reference(network.eval(), image).float().std() for image in images) < 20:
            last.weight.mul_(2)
    return network


@pytest.fixture(scope="session")
def tiny_model(build_once: BuildOnce, run: Path) -> Path:
    """The frame model of `run`: a few thousand weights, any frame size."""

    def export(path: Path) -> None:
        from cyclecast.export.checkpoints import read_generator
        from cyclecast.export.onnx import export_onnx

        export_onnx(read_generator(run, "a2b"), path, check=False)

    return build_once("tiny.onnx", export)


def moving_frames(count: int, width: int = 64, height: int = 48) -> list[Image]:
    """Draws smooth images, all different: a bright bar that moves over a gradient."""
    y, x = np.mgrid[0:height, 0:width]
    out = []
    for index in range(count):
        bar = 120 * np.exp(-(((x - width * (index + 0.5) / count) / 6.0) ** 2))
        out.append(np.stack([40 + bar, 60 + y * 100 / height, 80 + x * 100 / width], 2).clip(0, 255).astype(np.uint8))
    return out


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 frames of 64x48 at uneven times (a variable frame rate), with AAC sound."""
    folder = tmp_path_factory.mktemp("clips")
    sound = folder / "sound.m4a"
    write_sound(sound, 0.6)
    info = StreamInfo(64, 48, Fraction(25), Fraction(1, 1000), None, Color(1, 1, 1, 1), Fraction(1))
    with VideoWriter(folder / "silent.mp4", info, Encoding("h264", crf=1)) as writer:
        for index, image in enumerate(moving_frames(12)):
            writer.write(Frame(image, 40 * index + 7 * (index % 3), 40))
    with SideStreams(sound, Fraction(0), TimeRange(), ".mp4") as side_streams:
        assemble([writer.part()], info, folder / "uneven.mp4", side_streams)
    return folder / "uneven.mp4"


@pytest.fixture(scope="session")
def long_clip(build_once: BuildOnce) -> Path:
    """A little more than three parts of a conversion, at uneven times, with sound."""

    def draw(folder: Path) -> None:
        folder.mkdir()
        info = StreamInfo(64, 48, Fraction(25), Fraction(1, 1000), None, Color(1, 1, 1, 1), Fraction(1))
        with VideoWriter(folder / "silent.mp4", info, Encoding("h264", crf=5, preset="veryfast")) as writer:
            for index, image in enumerate(moving_frames(LONG_FRAMES)):
                writer.write(Frame(image, 40 * index + 7 * (index % 3), 40))
        write_sound(folder / "sound.m4a", LONG_FRAMES / 25)
        with SideStreams(folder / "sound.m4a", Fraction(0), TimeRange(), ".mp4") as side_streams:
            assemble([writer.part()], info, folder / "long.mp4", side_streams)

    return build_once("long-clip", draw) / "long.mp4"


class Negative:
    """A frame function that inverts every value, so that a test can check its output."""

    identity: str | None = "negative"

    def __init__(self) -> None:
        self.prepared: list[tuple[int, int]] = []

    def __call__(self, frame: Image) -> Image:
        return 255 - frame

    def prepare(self, width: int, height: int) -> None:
        self.prepared.append((width, height))


class Same(Negative):
    """Returns its input."""

    identity = "same"

    def __call__(self, frame: Image) -> Image:
        return frame


@pytest.fixture
def slow_failing() -> Callable[[int], type[Negative]]:
    """Builds a frame function that raises at its n-th frame."""

    def build(nth: int) -> type[Negative]:
        class Failing(Negative):
            calls = 0

            def __call__(self, frame: Image) -> Image:
                type(self).calls += 1
                if self.calls == nth:
                    raise RuntimeError("the model broke")
                return frame

        return Failing

    return build
