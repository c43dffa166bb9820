"""The page of `cyclecast web-app` in Chromium: on WebGPU by SwiftShader, which stands in for a GPU, and on WASM."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from cyclecast.video.frame import Image
from cyclecast.web_app.site import write_site
from tests.browser import CUT, WEBGPU, Browser, browsing
from tests.waiting import eventually
from tests.web_app.served_site import serving
from tests.web_runtime import web_runtime

pytest.importorskip("selenium", reason="needs selenium")

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

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
DROP = """
const files = new DataTransfer(), bytes = Uint8Array.from(atob(arguments[0]), letter => letter.charCodeAt(0));
files.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
dispatchEvent(new DragEvent("drop", {dataTransfer: files, cancelable: true}));
"""
CATCH = """
import(new URL("renderer.js", document.baseURI)).then(({Renderer}) => {
  const style = Renderer.prototype.style;
  Renderer.prototype.style = function (...args) { window.renderer = this; return style.apply(this, args); };
});
"""  # keeps the active renderer in window.renderer
INSTALLED = """
const [done] = arguments;
navigator.serviceWorker.ready.then(({active}) => {
  const check = () => { if (active.state === "activated") done(true); };
  active.onstatechange = check;
  check();
});
"""  # waits until the service worker has all files
STATUS = """
const [wanted, done] = arguments, status = document.getElementById("status");
const check = () => { if (status.textContent === wanted) done(true); };
new MutationObserver(check).observe(status, {childList: true});
check();
"""  # waits for a status


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

    def wait_for(self, script: str, *arguments: object) -> None:
        """Waits for a script without asking again and again, which would take the CPU time that the page needs."""
        assert self.browser.driver.execute_async_script(script, *arguments) is True

    def pixels_after(self, action: Callable[[], object]) -> Image:
        """Returns what the page shows once it has drawn again after an action."""
        painted = self.data("painted")
        action()
        eventually(lambda: self.data("painted") != painted, "another image")
        return self.pixels()

    def set_strength(self, strength: float) -> None:
        script = "const it = document.getElementById('strength'); it.value = arguments[0]; it.dispatchEvent(new Event('input'))"
        self.browser.run(script, strength)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_site(tmp_path_factory.mktemp("site") / "site", STYLES, precision="fp32", runtime=web_runtime()).output


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


def difference(a: Image, b: NDArray[Any]) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).max())


def test_pixels_on_webgpu_equal_those_of_onnx_runtime(
    site: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    path, image = photo(tmp_path, 256, 144)
    with serving(site) as url, browsing(Browser, tmp_path_factory, *WEBGPU) as browser:
        page = Page(browser, url)
        page.open("model=monet&size=256x144&path=webgpu")
        eventually(lambda: browser.text("source") == "demo scene", "the page is ready")
        browser.press("compare")
        page.open_file(path)  # before the first frame, which takes seconds
        page.wait_for(STATUS, "image")
        assert browser.text("path") == "WebGPU, zero copy" and "is a program on the CPU" in browser.text("notice")
        shown, styled = page.pixels(), styled_on_cpu(site / "models/monet.onnx", image)
        assert difference(shown[:, :127], image[:, :127]) == 0, "the source on the left"
        assert difference(shown[:, 129:], styled[:, 129:]) <= 2, "the style on the right"
        page.wait_for("navigator.serviceWorker.getRegistration().then(found => arguments[0](Boolean(found)))")
        assert browser.errors() == []


def test_the_page_without_a_network(site: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with browsing(Browser, tmp_path_factory) as browser:
        browser.driver.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
        with serving(site) as url:
            page = Page(browser, url)
            browser.driver.get(f"{url}icon.svg")
            browser.run("navigator.serviceWorker.register('sw.js')")
            page.wait_for(INSTALLED)
        browser.errors()  # an image has no favicon
        page.open("model=nothing&size=64x48&path=wasm")  # there is no server any more
        browser.run(CATCH)
        check_pixels_and_controls(page, site, tmp_path)
        check_camera_and_styles(page)
        check_snapshot_and_recording(page, downloads)
        check_layout_and_labels(browser)
        check_that_a_lost_renderer_is_replaced(page)
        Select(browser.driver.find_element(By.ID, "engine")).select_by_value("webgpu")
        goes_on = "this browser has no WebGPU here. The video goes on as before"
        eventually(lambda: goes_on in browser.text("toasts"), "a message")
        assert browser.run("return document.getElementById('engine').value") == "wasm"
        assert "path=wasm" in browser.driver.current_url
        assert [line for line in browser.errors() if "sw.js" not in line] == []  # only a newer one was looked for


def check_pixels_and_controls(page: Page, site: Path, folder: Path) -> None:
    """The output of WASM equals that of ONNX Runtime; the slider, the strength and the mirror do what they say, exactly."""
    browser, model = page.browser, site / "models/monet.onnx"
    path, image = photo(folder, 64, 48)
    eventually(lambda: browser.text("source") == "demo scene", "the page is ready")
    page.open_file(path)
    page.wait_for(STATUS, "image")
    eventually(lambda: "There is no style nothing. Type ?model= and one of monet, ukiyoe" in browser.text("toasts"), "a message")
    assert browser.run("return crossOriginIsolated"), "the service worker sends the headers for threads"
    assert browser.text("path").startswith("WASM, ") and browser.text("frame-size") == "64×48"
    assert "Your video never leaves this machine" in browser.driver.find_element(By.TAG_NAME, "footer").text
    styled = page.pixels()
    assert difference(styled, styled_on_cpu(model, image)) <= 2
    assert difference(page.pixels_after(lambda: page.set_strength(0.5)), 0.5 * image + 0.5 * styled) <= 1
    assert difference(page.pixels_after(lambda: page.set_strength(0.1)), 0.9 * image + 0.1 * styled) <= 1
    assert difference(page.pixels_after(lambda: browser.type("[")), image) == 0 and browser.text("strength-value") == "0 %"
    page.pixels_after(lambda: page.set_strength(1))
    compared = page.pixels_after(lambda: browser.type("s"))
    assert difference(compared[:, :31], image[:, :31]) == 0 and difference(compared[:, 33:], styled[:, 33:]) == 0
    browser.run("document.getElementById('handle').focus()")
    assert difference(page.pixels_after(lambda: browser.type(webdriver.Keys.HOME))[:, 1:], styled[:, 1:]) == 0
    assert browser.driver.find_element(By.ID, "handle").get_attribute("aria-valuetext") == "0 % source"
    mirrored = page.pixels_after(lambda: browser.press("mirror"))
    assert browser.is_pressed("mirror")
    assert difference(mirrored[:, 1:], styled_on_cpu(model, image[:, ::-1].copy())[:, 1:]) <= 2
    dropped = image[::-1].copy()
    png = base64.b64encode(cv2.imencode(".png", dropped)[1].tobytes()).decode()
    restyled = page.pixels_after(lambda: browser.run(DROP, png))
    assert browser.text("source") == "dropped.png"
    assert difference(restyled[:, 1:], styled_on_cpu(model, dropped[:, ::-1].copy())[:, 1:]) <= 2


def check_camera_and_styles(page: Page) -> None:
    """A switch of the style drops no frame: the video goes on until the other style is ready."""
    browser = page.browser
    browser.press("camera")
    eventually(lambda: "fake" in browser.text("source") and page.status() == "live", "the camera")
    browser.run(WATCH)
    browser.run("document.querySelector('[data-model=ukiyoe]').click()")
    pressed = "return [...document.querySelectorAll('.style[aria-pressed=true]')].map(button => button.dataset.model)"
    eventually(lambda: browser.run(pressed) == ["ukiyoe"] and page.data("model") == "ukiyoe", "the other style")
    seen = browser.run("return seen")
    models = [model for _, model in seen]
    assert [number for number, _ in seen] == list(range(seen[0][0], seen[0][0] + len(seen))), "each frame is shown once"
    assert models.count("monet") > 1 and models == sorted(models), "the video goes on until the other style is ready"
    browser.type("1")
    eventually(lambda: page.data("model") == "monet", "the first style, by its key: it is still loaded")
    eventually(lambda: "–" not in (browser.text("fps"), browser.text("ms")), "the measured numbers")
    assert float(browser.text("fps")) > 0 and int(browser.text("ms")) > 0


def check_snapshot_and_recording(page: Page, downloads: Path) -> None:
    browser = page.browser

    def saved(*suffixes: str) -> list[Path]:
        return [path for path in downloads.glob("cyclecast-monet-*") if path.suffix in suffixes]

    browser.type("r")
    eventually(lambda: browser.text("recording") == "recording", "the recording, by its key")
    shown = int(page.data("shown"))
    eventually(lambda: int(page.data("shown")) > shown + 8, "frames for the recording")
    browser.press("record")
    eventually(lambda: saved(".mp4", ".webm"), "the file of the recording")
    browser.type("x")
    eventually(
        lambda: page.status() == "paused" and page.data("shown") == page.data("sent"),
        "the pause, by its key; each frame that was ever sent is shown",
    )
    browser.press("snapshot")
    eventually(lambda: saved(".png") and cv2.imread(str(saved(".png")[0])) is not None, "the snapshot")
    assert difference(np.asarray(cv2.imread(str(saved(".png")[0])), np.uint8), page.pixels()) == 0
    with av.open(str(saved(".mp4", ".webm")[0])) as recorded:
        frames = [frame.to_ndarray(format="bgr24") for frame in recorded.decode(video=0)]
        assert not recorded.streams.audio and len(frames) > 3 and frames[0].shape == (48, 64, 3) and frames[-1].std() > 10


def check_layout_and_labels(browser: Browser) -> None:
    for zoom, (width, height) in itertools.product((100, 200), ((1440, 900), (390, 844), (320, 568))):
        browser.run("document.documentElement.style.fontSize = `${arguments[0]}%`", zoom)
        browser.resize(width, height)
        assert browser.run("return document.documentElement.scrollWidth") == width
        assert [line for line in browser.run(CUT) if not line.startswith(("Monet", "Ukiyoe"))] == []  # the gallery scrolls
    for element in browser.driver.find_elements(By.CSS_SELECTOR, "button, input, select, canvas, [role=slider]"):
        assert element.accessible_name or not element.is_displayed(), element.get_attribute("outerHTML")


def check_that_a_lost_renderer_is_replaced(page: Page) -> None:
    """After a lost GPU the page goes on with a fresh renderer."""
    page.browser.run("[window.lost, window.renderer] = [window.renderer, null]; lost.receive({type: 'lost', reason: 'a test'})")
    eventually(lambda: page.browser.run("return renderer !== null && renderer !== lost && renderer.runs > 0"), "a fresh renderer")
    page.wait_for(STATUS, "paused")
