"""Cameras by name: the list of a folder like Linux's root, the one that a name means, and the command that prints them."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from cyclecast import stream
from cyclecast.doctor import cameras as measured_cameras
from cyclecast.errors import InputError, MissingInputError
from cyclecast.video.cameras import VideoDevice, find_camera, list_cameras
from cyclecast.video.live.sources import camera
from cyclecast.video.live.sources.address import source_type
from cyclecast.video.live.sources.source import CaptureSettings
from tests.commands import run_command

NODES = {  # node -> its name, and the device that it belongs to
    "video0": ("Logitech BRIO", "pci0000:00/usb1/1-1"),
    "video1": ("Logitech BRIO", "pci0000:00/usb1/1-1"),  # its metadata
    "video2": ("HD Webcam: HD Webcam", "pci0000:00/usb1/1-2"),
    "video4": ("HD Webcam: HD Webcam", "pci0000:00/usb1/1-3"),
    "video10": ("OBS", "virtual/video4linux/video10"),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like Linux's root with five nodes, whose drivers do not answer."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    (tmp_path / "sys/class/video4linux").mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    for node, (name, where) in NODES.items():
        (tmp_path / "dev" / node).touch()
        hardware = tmp_path / "sys/devices" / where
        folder = hardware if "virtual" in where else hardware / "video4linux" / node
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        if folder is not hardware:
            (folder / "device").symlink_to(hardware)
        (tmp_path / "sys/class/video4linux" / node).symlink_to(folder)
    return tmp_path


def test_each_camera_is_listed_once_with_its_capture_node(root: Path) -> None:
    found = list_cameras(root)
    assert [(Path(each.source).name, each.name) for each in found] == [
        (node, NODES[node][0]) for node in ("video0", "video2", "video4", "video10")
    ]
    assert [each.kind for each in found] == ["unknown"] * 3 + ["virtual"]


def test_a_part_of_a_name_means_the_one_camera_that_has_it(root: Path) -> None:
    found = list_cameras(root)
    assert find_camera("logitech", found) is found[0] and find_camera("obs", found) is found[3]
    assert find_camera("Kinect", found) is None
    with pytest.raises(InputError, match=r"^webcam: several .* HD Webcam: HD Webcam \(\S+video2\), .*video4\); type more of the"):
        find_camera("webcam", found)
    with pytest.raises(InputError, match="type the address of one$"):
        find_camera("HD Webcam: HD Webcam", found)
    longer = [VideoDevice("1", "OBS Virtual", "unknown", None, None), *found]
    assert find_camera("OBS", longer) is found[3], "the whole name comes before a part of one"


def test_a_file_of_that_name_stays_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Logitech").touch()
    assert source_type("Logitech") == source_type("clips/BRIO") == source_type("file:///BRIO") == "file"
    assert source_type("BRIO") == source_type("HD Webcam: HD Webcam") == "name"
    assert source_type("screen") == "screen" and source_type("0") == "camera"
    with pytest.raises(MissingInputError, match="^no-such-camera: no such file"):
        stream("no-such-camera", "monet")


def test_a_camera_is_opened_by_its_name(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [VideoDevice(str(clip), "Clip Cam", "camera", None, None), VideoDevice("/dev/null", "CSI 0", "csi", None, None)]
    monkeypatch.setattr(camera, "list_cameras", lambda: devices)
    source = camera.open_named_camera("clip", CaptureSettings())
    assert source.description.startswith("Clip Cam, ") and next(source.pending_frames).decode().shape == (48, 64, 3)
    with pytest.raises(
        InputError, match=f"^Kinect: no such file, and no camera of that name; .*cameras are Clip Cam .{clip}., CSI 0"
    ):
        camera.open_named_camera("Kinect", CaptureSettings())
    with pytest.raises(InputError, match="type csi://0"):
        camera.open_named_camera("csi", CaptureSettings())


def test_the_command_lists_cameras_and_what_they_deliver(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = VideoDevice(str(tmp_path / "none"), "OBS", "virtual", None, None)
    sending = VideoDevice(str(clip), "Loopback", "virtual", None, None)
    locked = VideoDevice("/dev/video9", "Locked", "unknown", "no permission: it belongs to group video", "video")
    monkeypatch.setattr(measured_cameras, "list_cameras", lambda root: [silent, sending, locked])
    lines = run_command("cameras").stdout.splitlines()
    assert lines[0] == f"OBS ({silent.source}): a virtual camera; no program sends video to it now"
    assert lines[1] == f"Loopback ({clip})" and lines[2].startswith("    64x48 h264, ")
    assert lines[3] == "Locked (/dev/video9): no permission: it belongs to group video"
    done = run_command("cameras", "--no-measure", "--json")
    assert [(each["source"], each["modes"]) for each in json.loads(done.stdout)["cameras"]] == [
        (silent.source, []),
        (sending.source, []),
        ("/dev/video9", []),
    ]
    monkeypatch.setattr(measured_cameras, "list_cameras", lambda root: [])
    done = run_command("cameras", "--no-measure")
    assert done.returncode == 0 and done.stdout.startswith("no camera found: plug one in") and done.stdout.count("\n") == 1
    assert json.loads(run_command("cameras", "--json").stdout) == {"cameras": []}
