"""Measures the page of `cyclecast web-app` in headless Chromium: frames per second, milliseconds a frame, and memory over time.

The demo scene is styled. The page is served with the headers that allow threads. Memory is that of all of Chromium's processes,
private and shared, at the start and after each tenth of the frames. `--webgpu` computes on SwiftShader, a program that stands in
for a GPU, whose speed says nothing about GPUs. Needs Debian's chromium and chromium-driver. Linux only: it reads /proc.

    cyclecast web-app -o site && python -m benchmarks.browser site --size 64x48 --frames 500
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.soak import sample

FLAGS = (
    "--headless=new --no-sandbox --no-first-run --disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage"
)
SWIFTSHADER = (
    "--enable-unsafe-webgpu --enable-features=Vulkan --use-angle=vulkan --use-vulkan=swiftshader "
    "--use-webgpu-adapter=swiftshader --disable-vulkan-surface"
)
SAMPLES = 10
POLL_S = 0.1
TIMEOUT_S = 120.0  # for each sample, before the page counts as stuck
STATE = """
const {shown, model} = document.getElementById("canvas")?.dataset ?? {}, text = id => document.getElementById(id)?.textContent;
return {shown: Number(shown ?? 0), model, ms: text("ms"), path: text("path"), size: text("frame-size"),
  status: text("status"), overlay: text("overlay-detail")};
"""


class Handler(SimpleHTTPRequestHandler):
    """Serves files with their types and the headers for threads, and logs nothing."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json",
    }

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A server that passes over a browser that ends in the middle of a download."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def serving(site: Path) -> Iterator[str]:
    """Yields the address of the site on this machine."""
    with Server(("127.0.0.1", 0), partial(Handler, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def opened(url: str, flags: str) -> Iterator[Any]:
    """Yields a driver of Chromium with the page opened."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS.split(), *flags.split(), f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            driver.get(url)
            yield driver
        finally:
            driver.quit()


def wait_for_frames(driver: Any, frames: int) -> dict[str, Any]:
    """Returns the page's state once it has shown this many frames. Raises SystemExit if it shows no more."""
    limit, last = time.monotonic() + TIMEOUT_S, -1
    while (state := driver.execute_script(STATE))["shown"] < frames:
        if state["shown"] > last:
            limit, last = time.monotonic() + TIMEOUT_S, state["shown"]
        if state["status"] == "failed" or time.monotonic() > limit:
            raise SystemExit(f"the page shows no frames: {state['status']}, {state['overlay']}")
        time.sleep(POLL_S)
    return dict(state)


def measure(site: Path, model: str, path: str, size: str, frames: int, flags: str) -> dict[str, Any]:
    """Measures one visit, from the second frame on."""
    with serving(site) as url, opened(f"{url}?model={model}&path={path}&size={size}", flags) as driver:
        first_shown = wait_for_frames(driver, 2)
        begin, memory = time.monotonic(), [sample(driver.service.process.pid)["mib"]]
        for number in range(1, SAMPLES + 1):
            state = wait_for_frames(driver, first_shown["shown"] + frames * number // SAMPLES)
            memory.append(sample(driver.service.process.pid)["mib"])
        fps = (state["shown"] - first_shown["shown"]) / (time.monotonic() - begin)
        return {
            "model": state["model"],
            "path": state["path"],
            "size": state["size"],
            "frames": state["shown"] - first_shown["shown"],
            "fps": round(fps, 2),
            "ms": int(state["ms"]),
            "mib": [round(mib) for mib in memory],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, help="the folder that cyclecast web-app wrote")
    parser.add_argument("--model", default="monet", help="a model of the site (default: monet)")
    parser.add_argument("--size", default="640x360", help="processing size, WIDTHxHEIGHT (default: 640x360)")
    parser.add_argument("--frames", type=int, default=100, help="frames to measure (default: 100)")
    parser.add_argument(
        "--webgpu", choices=("webgpu", "canvas"), help="WebGPU on SwiftShader instead of WASM: zero copy, or pixels"
    )
    options = parser.parse_args()
    if not (options.site / "index.html").is_file():
        raise SystemExit(f"{options.site}: not a site; write one with cyclecast web-app -o {options.site}")
    path, flags = (options.webgpu, SWIFTSHADER) if options.webgpu else ("wasm", "--disable-gpu")
    json.dump(measure(options.site, options.model, path, options.size, options.frames, flags), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
