"""The page of `cyclecast web-app` in Chromium: on WebGPU by SwiftShader, which stands in for a GPU, and on WASM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnxruntime
import pytest

from cyclecast.video.frame import Image
from cyclecast.web_app.runtime import find_runtime
from cyclecast.web_app.site import write_site
from tests.browser import CUT, WEBGPU, Browser, browsing
from tests.waiting import eventually
from tests.web_app.served_site import serving

pytest.importorskip("selenium", reason="needs selenium")

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

RUNTIME = find_runtime()  # in the user's cache: tests have one of their own
STYLES = ["monet", "ukiyoe"]
PIXELS = """
const canvas = document.getElementById("canvas"), copy = document.createElement("canvas");
[copy.width, copy.height] = [canvas.width, canvas.height];
copy.getContext("2d").drawImage(canvas, 0, 0);
return copy.toDataURL("image/png").split(",")[1];
"""
WATCH = """
window.seen = [];
const canvas = document.getElementById("canvas");
new MutationObserver(() => seen.push([Number(canvas.dataset.shown), canvas.dataset.model]))
  .observe(canvas, {attributeFilter: ["data-runs"]});
"""  # lists the number and the model of each frame that is shown from now on
CATCH = """
import(new URL("renderer.js", document.baseURI)).then(({Renderer}) => {
  const style = Renderer.prototype.style;
  Renderer.prototype.style = function (...args) { window.renderer = this; return style.apply(this, args); };
});
"""  # keeps the active renderer in window.renderer
OFFLINE = """
const [done] = arguments, root = new URL("./", location.href).href;
navigator.serviceWorker.ready.then(({active}) => {
  if (active.state === "activated") return done(true);
  active.onstatechange = () => { if (active.state === "activated") done(true); };
});
"""


@dataclass
class Page:
    """The page in a browser."""

    browser: Browser
    url: str

    def open(self, query: str) -> None:
        self.browser.resize(1440, 900)
        self.browser.driver.get(f"{self.url}?{query}")

    def open_file(self, path: Path) -> None:
        self.browser.driver.find_element(By.ID, "file").send_keys(str(path))

    def data(self, name: str) -> Any:
        return self.browser.run(f"return document.getElementById('canvas')?.dataset.{name}")

    def status(self) -> str:
        return str(self.browser.run("return document.getElementById('status')?.textContent"))

    def pixels(self) -> Image:
        """Returns what the page shows, (H, W, 3) uint8 BGR."""
        return self.browser.image(self.browser.run(PIXELS))

    def set_strength(self, strength: float) -> None:
        script = (
            "const slider = document.getElementById('strength'); slider.value = arguments[0]; slider.oninput({target: slider})"
        )
        self.browser.run(script, strength)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if RUNTIME is None:
        pytest.skip("needs onnxruntime-web in the cache: cyclecast web-app downloads it")
    return write_site(tmp_path_factory.mktemp("site") / "site", STYLES, precision="fp32", runtime=RUNTIME).output


@pytest.fixture(scope="module")
def wasm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory) as browser:
        yield browser


def photo(folder: Path, width: int, height: int) -> tuple[Path, Image]:
    """Returns a PNG of smooth colors with noise, and its pixels."""
    random = np.random.default_rng(0)
    coarse = cv2.resize(random.integers(0, 256, (9, 16, 3), np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    image = np.asarray((coarse + random.normal(0, 4, coarse.shape)).clip(0, 255), np.uint8)
    path = folder / f"photo-{width}x{height}.png"
    cv2.imwrite(str(path), image)
    return path, image


def styled_on_cpu(model: Path, image: Image) -> Image:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: image[None]})[0][0], np.uint8)


def difference(a: Image, b: Image) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


def test_pixels_on_webgpu_equal_those_of_onnx_runtime(
    site: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    path, image = photo(tmp_path, 256, 144)
    with serving(site) as url, browsing(tmp_path_factory, *WEBGPU) as browser:
        page = Page(browser, url)
        page.open("model=monet&size=256x144&path=webgpu")
        eventually(lambda: page.browser.text("source") == "demo scene", "the page is ready")
        page.open_file(path)  # before the first frame, which takes seconds
        eventually(lambda: page.status() == "image", "the styled image")
        assert browser.text("path") == "WebGPU, zero copy" and "is a program on the CPU" in browser.text("notice")
        assert difference(page.pixels(), styled_on_cpu(site / "models/monet.onnx", image)) <= 2
        browser.press("compare")
        eventually(lambda: difference(page.pixels()[:, :126], image[:, :126]) == 0, "the source on the left, exactly")
        assert browser.errors() == []


def test_pixels_on_wasm_equal_those_of_onnx_runtime_and_the_controls_mix_them(site: Path, wasm: Browser, tmp_path: Path) -> None:
    path, image = photo(tmp_path, 64, 48)
    with serving(site) as url:
        page = Page(wasm, url)
        page.open("model=monet&size=64x48&path=wasm")
        eventually(lambda: page.status() == "live", "the demo scene")
        page.open_file(path)
        eventually(lambda: page.status() == "image" and difference(page.pixels(), image) > 0, "the styled image")
        styled = styled_on_cpu(site / "models/monet.onnx", image)
        eventually(lambda: difference(page.pixels(), styled) <= 2, "the model's pixels")
        styled = page.pixels()
        page.set_strength(0.5)
        eventually(lambda: difference(page.pixels(), (0.5 * image + 0.5 * styled).round().astype(np.uint8)) <= 1, "half of each")
        wasm.type("[[[[[")
        eventually(lambda: difference(page.pixels(), image) == 0, "the source, exactly")
        assert wasm.text("strength-value") == "0 %"
        page.set_strength(1)
        wasm.press("compare")
        half = np.concatenate([image[:, :32], styled[:, 32:]], axis=1)
        eventually(
            lambda: (
                np.abs(page.pixels()[:, [*range(31), *range(33, 64)]].astype(int) - half[:, [*range(31), *range(33, 64)]]).max()
                == 0
            ),
            "the source on the left",
        )
        wasm.run("document.getElementById('handle').focus()")
        wasm.type(webdriver.Keys.HOME)
        eventually(lambda: difference(page.pixels()[:, 1:], styled[:, 1:]) == 0, "the style, by a key")
        assert wasm.driver.find_element(By.ID, "handle").get_attribute("aria-valuetext") == "0 % source"
        wasm.press("mirror")
        flipped = styled_on_cpu(site / "models/monet.onnx", image[:, ::-1].copy())
        eventually(lambda: difference(page.pixels()[:, 1:], flipped[:, 1:]) <= 2, "the mirrored image")


def test_camera_styles_snapshot_recording_and_offline(site: Path, wasm: Browser, tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    wasm.driver.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})

    def saved(suffix: str) -> list[Path]:
        return list(downloads.glob(f"cyclecast-*.{suffix}"))

    def press_style(name: str) -> None:
        wasm.run("document.querySelector(`[data-model=${arguments[0]}]`).click()", name)

    with serving(site) as url:
        page = Page(wasm, url)
        page.open("model=nothing&size=64x48&path=wasm")
        wasm.run(CATCH)
        eventually(lambda: "There is no style nothing" in wasm.text("toasts"), "a message about the address")
        wasm.press("camera")
        eventually(lambda: "fake" in wasm.text("source") and page.status() == "live", "the camera")
        eventually(lambda: wasm.text("fps") != "–" and wasm.text("ms") != "–", "the measured numbers")
        assert wasm.text("path") == "WASM, 1 thread" and wasm.text("frame-size") == "64×48"
        assert "Your video never leaves this machine" in wasm.driver.find_element(By.TAG_NAME, "footer").text

        wasm.run(WATCH)
        press_style("ukiyoe")
        eventually(lambda: page.data("model") == "ukiyoe" and wasm.run("return seen.at(-1)[1]") == "ukiyoe", "the other style")
        seen = wasm.run("return seen")
        models = [model for _, model in seen]
        assert [number for number, _ in seen] == list(range(seen[0][0], seen[0][0] + len(seen))), "each frame is shown once"
        assert models.count("monet") > 1 and models == sorted(models), "the video goes on until the other style is ready"
        eventually(lambda: page.data("shown") == page.data("sent"), "every frame that was sent is shown")
        pressed = "return [...document.querySelectorAll('.style[aria-pressed=true]')].map(b => b.dataset.model)"
        eventually(lambda: wasm.run(pressed) == ["ukiyoe"], "the pressed style")
        wasm.type("1")
        eventually(lambda: page.data("model") == "monet", "the first style, by its key, still loaded")

        wasm.press("record")
        eventually(lambda: wasm.text("recording") == "recording", "the recording")
        shown = int(page.data("shown"))
        wasm.type("x")
        eventually(lambda: page.status() == "paused", "the pause, by its key")
        wasm.press("pause")
        eventually(lambda: int(page.data("shown")) > shown + 10, "frames for the recording")
        wasm.press("snapshot")
        wasm.press("record")
        eventually(lambda: saved("png") and cv2.imread(str(saved("png")[0])) is not None, "the snapshot")
        assert cv2.imread(str(saved("png")[0])).shape == (48, 64, 3)
        eventually(lambda: saved("mp4") or saved("webm"), "the file of the recording")
        with av.open(str((saved("mp4") or saved("webm"))[0])) as recorded:
            frames = [frame.to_ndarray(format="bgr24") for frame in recorded.decode(video=0)]
            assert not recorded.streams.audio and len(frames) > 3 and frames[0].shape == (48, 64, 3) and frames[-1].std() > 10

        for width, height in ((1440, 900), (390, 844), (320, 568)):
            wasm.resize(width, height)
            assert wasm.run("return document.documentElement.scrollWidth") == width and wasm.run(CUT) == []
        for element in wasm.driver.find_elements(By.CSS_SELECTOR, "button, input, select, canvas, [role=slider]"):
            assert element.accessible_name or not element.is_displayed(), element.get_attribute("outerHTML")
        assert wasm.errors() == []
        wasm.driver.execute_async_script(OFFLINE)

    wasm.driver.refresh()  # there is no server any more
    eventually(lambda: page.status() == "live", "the page without a network")
    assert wasm.run("return crossOriginIsolated"), "the service worker sends the headers for threads"
    check_that_renderers_are_replaced(page, wasm.run)


def check_that_renderers_are_replaced(page: Page, run: Callable[..., Any]) -> None:
    """After a lost GPU, and before Safari's limit on iOS, the page goes on with a fresh renderer."""
    run(CATCH)
    eventually(lambda: run("return Boolean(window.renderer)"), "a renderer")
    run("[window.lost, window.renderer] = [window.renderer, null]; lost.receive({type: 'lost', reason: 'a test'})")
    eventually(lambda: run("return Boolean(window.renderer) && renderer !== lost && renderer.runs > 1"), "a fresh renderer")
    assert page.status() == "live"
