"""The virtual camera: colors, sizes, and the error where no device exists."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cyclecast.errors import OutputError
from cyclecast.video.frame import Image
from cyclecast.video.live.capture.push_feed import PushFeed
from cyclecast.video.live.session import Session
from cyclecast.video.live.sinks.registry import open_sink
from cyclecast.video.live.sinks.sink import Sink
from cyclecast.video.live.sinks.virtual_camera import VirtualCamera, find_camera_problem, fit_to
from cyclecast.video.live.sources.source import PendingFrame
from cyclecast.video.live.styling.open_model import BorrowedModel
from tests.conftest import Same
from tests.video.live.displays import quarters

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its devices")


class Memory:
    """A backend of pyvirtualcam's that keeps what a device would get."""

    opened: list[Memory] = []

    def __init__(self, *, width: int, height: int, fps: float, fourcc: int, device: str | None) -> None:
        self.size, self.fps, self.fourcc, self.name = (width, height), fps, fourcc.to_bytes(4, "little"), device
        self.frames: list[Image] = []
        self.closed = False
        Memory.opened.append(self)

    def send(self, frame: Any) -> None:
        width, height = self.size
        self.frames.append(frame.reshape(height, width, 3).copy())

    def device(self) -> str:
        return self.name or "memory"

    def native_fourcc(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def memory() -> Iterator[list[Memory]]:
    """The devices that were opened, in the place of the system's."""
    library = pytest.importorskip("pyvirtualcam")
    library.register_backend("memory", Memory)
    Memory.opened = []
    yield Memory.opened
    library.camera.BACKENDS.pop("memory")


def show_frames(devices: list[Memory], address: str, images: list[Image]) -> list[str]:
    """Sends each image through a live run into a virtual camera until it arrives. Returns the messages of the run."""
    push_feed, messages = PushFeed(), list[str]()

    def open_memory(address: str, controls: Any) -> Sink:
        return VirtualCamera(address, controls, "memory")

    session = Session(
        push_feed, ["same"], lambda name: BorrowedModel(name, Same()), [address], open_memory, on_message=messages.append
    )

    over, limit = threading.Event(), time.monotonic() + 30

    def fill() -> None:
        for image in images:
            before = len(devices[0].frames) if devices else 0
            while not devices or len(devices[0].frames) < before + 2:
                push_feed.put(PendingFrame(time.perf_counter(), image.copy))
                if over.wait(0.01) or time.monotonic() > limit:
                    return session.quit()
        return session.quit()

    filling = threading.Thread(target=fill)
    filling.start()
    try:
        session.run()
    finally:
        over.set()
        filling.join()
    return messages


def test_the_colors_are_kept(memory: list[Memory]) -> None:
    image = quarters(96, 64)
    messages = show_frames(memory, "virtual:///dev/video10", [image])
    (device,) = memory
    assert device.size == (96, 64) and device.fourcc == b"24BG" and device.name == "/dev/video10"
    assert all(np.array_equal(frame, image) for frame in device.frames) and len(device.frames) >= 2
    assert device.closed
    assert "virtual camera: /dev/video10, 96x64" in messages


def test_the_size_is_even_and_does_not_change(memory: list[Memory]) -> None:
    first, later = quarters(97, 65), quarters(192, 128)
    show_frames(memory, "virtual", [first, later])
    (device,) = memory
    assert device.size == (96, 64) and device.name is None
    assert np.array_equal(device.frames[0], first[:64, :96])
    assert np.abs(device.frames[-1][4:28, 4:20].astype(int) - later[8, 8]).max() <= 1


def test_a_device_that_cannot_be_opened_is_an_error_in_one_line(memory: list[Memory]) -> None:
    class Busy(Memory):
        def send(self, frame: Any) -> None:
            raise RuntimeError("Device or\nresource busy")

    pytest.importorskip("pyvirtualcam").register_backend("memory", Busy)
    with pytest.raises(OutputError, match=r"^virtual camera: virtual: Device or resource busy") as caught:
        show_frames(memory, "virtual", [quarters(96, 64)] * 2)
    assert "\n" not in str(caught.value)


def test_only_an_odd_row_or_column_is_cropped() -> None:
    image = quarters(97, 65)
    assert np.array_equal(fit_to(image, (96, 64)), image[:64, :96]) and fit_to(image, (96, 64)).flags.c_contiguous
    even = quarters(96, 64)
    assert fit_to(even, (96, 64)).shape == (64, 96, 3)
    assert fit_to(even, (48, 32)).shape == (32, 48, 3)


@linux
def test_a_missing_device_is_an_error_with_the_command_that_creates_it() -> None:
    pytest.importorskip("pyvirtualcam")
    if list(Path("/dev").glob("video*")):
        pytest.skip("this machine has video devices")
    command = "sudo modprobe v4l2loopback exclusive_caps=1 card_label=cyclecast"
    command_line = [sys.executable, "-m", "cyclecast", "live", "pattern://320x240@15", "--model", "monet", "--sink", "virtual"]
    done = subprocess.run(command_line, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: virtual: there is no virtual camera") and command in last


@linux
def test_the_error_names_what_is_missing(tmp_path: Path) -> None:
    assert "modprobe v4l2loopback exclusive_caps=1" in str(find_camera_problem(None, tmp_path))
    assert "modprobe v4l2loopback video_nr=10 exclusive_caps=1" in str(find_camera_problem("/dev/video10", tmp_path))
    for number, place in ((0, "pci0000:00"), (10, "virtual")):
        device = tmp_path / f"sys/devices/{place}/video4linux/video{number}"
        device.mkdir(parents=True)
        (tmp_path / "sys/class/video4linux").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"sys/class/video4linux/video{number}").symlink_to(device)
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / f"dev/video{number}").touch()
    loopback = str(tmp_path / "dev/video10")
    assert find_camera_problem(None, tmp_path) is None and find_camera_problem(loopback, tmp_path) is None
    camera = find_camera_problem(str(tmp_path / "dev/video0"), tmp_path)
    assert camera == f"no virtual camera of that name; there are: {loopback}"


def test_a_missing_package_is_an_error_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)  # as where it is not installed
    with pytest.raises(OutputError, match=r"^pyvirtualcam is not installed: pip install 'cyclecast\[live\]'$"):
        Session(PushFeed(), ["same"], lambda name: BorrowedModel(name, Same()), ["virtual"], open_sink)
