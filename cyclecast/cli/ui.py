"""The command `ui`: a live run that is controlled in the browser, from its source on."""

from __future__ import annotations

import os
import socket
import threading
import webbrowser
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from cyclecast.cli.console import (
    DeviceOption,
    EngineOption,
    PrecisionOption,
    ThreadsOption,
    extra,
    print_line,
)
from cyclecast.cli.live_inputs import AudioOption, open_models, print_summary

if TYPE_CHECKING:
    from cyclecast.video.live.capture.source_switcher import SourceSwitcher
    from cyclecast.video.live.sinks.sink import SessionControls, Sink
    from cyclecast.video.live.styling.stream import Feed

PORT = 8080  # unless another program uses it
FIRST_MODEL = "monet"


def ui(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="A model to choose from: a bundled one or a path. Repeatable. Default: all bundled ones."
        ),
    ] = None,
    engine: EngineOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    audio: AudioOption = "auto",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the page. Default: 8080, or a free one if that is in use.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Whether to open the page in the browser.")] = True,
) -> None:
    """Open a page in the browser to choose a camera or a file, a style and the outputs.

    Only this machine can open the page, and only with the token in its address. Ctrl-C ends the run.

    Example: cyclecast ui
    """
    from cyclecast.runtime.model import bundled_models
    from cyclecast.video.live.options import LiveOptions
    from cyclecast.video.live.session import Session
    from cyclecast.video.live.sinks.registry import open_sink
    from cyclecast.video.live.sinks.sink import MissingSink

    with extra("web"):
        from cyclecast.video.live.sinks.web import WebPage
        from cyclecast.video.live.sinks.web.start_screen import StartScreen

    bundled = bundled_models()
    models = model or sorted(bundled, key=lambda name: name != FIRST_MODEL)
    samples = {name: path.with_suffix(".jpg") for name, path in bundled.items() if path.with_suffix(".jpg").is_file()}
    opener, _ = open_models(models, engine, device, precision, threads)
    options = LiveOptions(audio=audio)
    source = switchable_source(has_sound=audio == "auto")
    address = f"web://127.0.0.1:{free_port() if port is None else port}"

    def open_page_or_sink(address: str, controls: SessionControls) -> Sink:
        if not address.startswith("web://"):
            return open_sink(address, controls)
        if audio == "auto":
            source.sound = controls.sound
        try:
            page = WebPage(address, controls, screen=StartScreen(samples))
        except MissingSink as error:
            raise MissingSink(str(error).replace("--sink web://HOST:PORT", "--port PORT")) from error
        if open_browser and not show_page(page.entry_url):
            print_line("open this address in a browser")
        return page

    session = Session(source, models, opener, [address], open_page_or_sink, options=options, on_message=print_line)
    report = session.run()
    if report.shown:
        print_summary(report)


def switchable_source(has_sound: bool) -> SourceSwitcher:
    """Returns a feed without a source, which opens cameras, files and addresses, and "browser".

    has_sound: whether the sound of files and streams is decoded.
    """
    from cyclecast.video.live.capture.client import Capture
    from cyclecast.video.live.capture.push_feed import PushFeed
    from cyclecast.video.live.capture.source_switcher import SourceSwitcher
    from cyclecast.video.live.sources.source import CaptureSettings
    from cyclecast.video.live.styling.stream import BROWSER

    def open_feed(address: str) -> Feed:
        return PushFeed() if address == BROWSER else Capture(address, CaptureSettings(sound=has_sound), print_line)

    return SourceSwitcher(open_feed, print_line)


def free_port() -> int:
    """Returns `PORT`, or 0 if another program uses it, for any free one."""
    with socket.socket() as probe:
        return PORT if probe.connect_ex(("127.0.0.1", PORT)) else 0


def show_page(url: str) -> bool:
    """Opens a URL in the user's browser, without waiting for it. Returns False if there is none.

    A browser that would take over the terminal, such as Lynx, is none, unless the variable BROWSER names it.
    """
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    in_terminal = isinstance(browser, webbrowser.GenericBrowser) and not isinstance(browser, webbrowser.BackgroundBrowser)
    if in_terminal and "BROWSER" not in os.environ:
        return False
    threading.Thread(target=browser.open, args=(url,), name="open browser", daemon=True).start()
    return True


def is_ui_installed() -> bool:
    """Returns whether the packages of the page are there."""
    return all(find_spec(name) for name in ("aiortc", "fastapi", "uvicorn"))
