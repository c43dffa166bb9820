"""The source of a run is changed while it runs: the one before goes on until the new one delivers, and every frame is counted."""

from __future__ import annotations

import shutil
from pathlib import Path

from cyclecast.video.live.capture.client import Capture
from cyclecast.video.live.capture.push_feed import PushFeed
from cyclecast.video.live.capture.source_switcher import NO_SOURCE, SourceSwitcher, browser_feed
from cyclecast.video.live.session import Session
from cyclecast.video.live.sinks.registry import open_sink
from cyclecast.video.live.sound.feed import SoundFeed
from cyclecast.video.live.sources.source import CaptureSettings
from cyclecast.video.live.styling.stream import Feed
from tests.conftest import Same
from tests.video.live.sessions import Collecting, open_as, wait_for
from tests.video.live.test_recording import run_with


def open_feed(address: str) -> Feed:
    return PushFeed() if address == "browser" else Capture(address, CaptureSettings(loop=False))


def test_a_source_replaces_another_when_its_first_frame_is_there(tmp_path: Path, clip: Path) -> None:
    messages, sink = list[str](), Collecting()
    switcher = SourceSwitcher(open_feed, messages.append)
    openers = {"sink": sink.open, "null": open_sink}
    one = Session(switcher, ["same"], open_as(Same()), ["sink"], lambda address, controls: openers[address](address, controls))

    def shows(width: int) -> bool:
        return bool(sink.frames) and sink.frames[-1].source.shape[1] == width

    def act() -> None:
        assert one.feed.name == NO_SOURCE and not sink.frames and one.feed.outage is None
        switcher.request("pattern://160x96@30")
        wait_for(lambda: shows(160), "the first source")
        before = len(sink.frames)
        switcher.request(str(tmp_path / "absent.mp4"))
        wait_for(lambda: switcher.failure, "a failure")
        assert "absent.mp4: no such file" in str(switcher.failure) and switcher.opening is None
        wait_for(lambda: len(sink.frames) > before + 3 and shows(160), "the source before goes on")
        one.set_sink("null", True)
        one.set_sink("null", True)
        assert one.has_sink("null") and len(one._sinks.reports()) == 2
        one.set_sink("null", False)
        assert not one.has_sink("null")
        switcher.request(str(clip))  # a short one, played once
        wait_for(lambda: shows(64), "the second source")
        wait_for(lambda: switcher.failure, "its end")
        assert switcher.failure == f"{clip}: has ended" and one.feed.name == NO_SOURCE
        switcher.request("browser")
        wait_for(lambda: browser_feed(one.feed), "the browser's feed, which needs no frame")

    report = run_with(one, act)
    assert report.captured == report.shown + report.skipped
    numbers = [frame.number for frame in sink.frames]
    assert numbers == sorted(set(numbers)), "the count goes on"
    assert not switcher._worker.is_alive() and switcher._feeds == []
    assert "the source is pattern://160x96@30" in messages and messages[-1] == "the source is the browser's camera"


def test_only_the_current_source_is_heard(tmp_path: Path, clip: Path) -> None:
    other, heard = shutil.copyfile(clip, tmp_path / "other.mp4"), SoundFeed()
    switcher = SourceSwitcher(lambda address: Capture(address, CaptureSettings(sound=True)))
    switcher.sound = heard
    one = Session(switcher, ["same"], open_as(Same()), ["null"], open_sink)

    def switch(address: object) -> Capture:
        switcher.request(str(address))
        wait_for(lambda: switcher.name == str(address), "the source")
        assert isinstance(switcher.current, Capture)
        return switcher.current

    def act() -> None:
        first = switch(clip)
        wait_for(lambda: heard.read(0, 1e9)[1], "its sound")
        second, count = switch(other), heard.read(0, 1e9)[0]
        assert first.sound is None and second.sound is heard and heard.is_present
        wait_for(lambda: heard.read(count, 1e9)[1], "the sound of the second source")
        third = switch("pattern://160x96@30")
        assert not heard.is_present and second.sound is None and third.sound is heard

    run_with(one, act)
