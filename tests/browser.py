"""Chromium for tests of web pages: it is driven as a user would, and skipped by name where it is missing."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pytest

from cyclecast.video.frame import Image
from tests.waiting import LIMIT

pytest.importorskip("selenium", reason="needs selenium")

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

FLAGS = (
    "--headless=new --no-sandbox --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --use-fake-device-for-media-stream "
    "--use-fake-ui-for-media-stream"
)
SWIFTSHADER = "--use-webgpu-adapter=swiftshader"
WEBGPU = (  # WebGPU on the CPU
    "--enable-unsafe-webgpu",
    "--enable-features=Vulkan",
    "--use-angle=vulkan",
    "--use-vulkan=swiftshader",
    SWIFTSHADER,
    "--disable-vulkan-surface",
)
CUT = """
const found = [], texts = [], root = document.querySelector("dialog[open]") || document.body;
const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), range = document.createRange();
while (walker.nextNode()) {
  const {data, parentElement: element} = walker.currentNode, isOverVideo = element.closest("main");
  if (!data.trim() || !element.checkVisibility({opacityProperty: true}) || element.clientWidth === 1) continue;  // read aloud
  range.selectNodeContents(walker.currentNode);
  const text = range.getBoundingClientRect();
  if (text.left < 0 || text.right > innerWidth) found.push(`${data} leaves the page`);
  for (let box = element; box !== document.body; box = box.parentElement) {
    const around = box.getBoundingClientRect(), overflow = getComputedStyle(box).overflowY;
    if (overflow === "auto" || (overflow === "visible" && !box.matches("button, label, .toast, .side"))) continue;
    if (text.left < around.left || text.right > around.right || text.top < around.top || text.bottom > around.bottom)
      found.push(`${data} is cut by ${box.id || box.className}`);
  }
  if (isOverVideo) continue;
  for (const [other, its] of texts) {
    if (Math.min(text.right, its.right) - Math.max(text.left, its.left) > 1
      && Math.min(text.bottom, its.bottom) - Math.max(text.top, its.top) > 1) found.push(`${data} overlaps ${other}`);
  }
  texts.push([data, text]);
}
for (const button of root.querySelectorAll("button"))
  if (button.scrollWidth > button.clientWidth) found.push(`${button.textContent} is wider than its button`);
return found;
"""  # the texts that do not fit


class Browser:
    """Chromium, and what a user sees in it."""

    def __init__(self, profile: Path, *flags: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (
            *FLAGS.split(),
            *(flags if SWIFTSHADER in flags else (*flags, "--disable-gpu")),
            f"--user-data-dir={profile}",
        ):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        self.driver.set_script_timeout(LIMIT)

    def resize(self, width: int, height: int) -> None:
        """Emulates a screen of this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 1000}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    @contextmanager
    def visiting(self, url: str) -> Iterator[None]:
        """Opens the page; fails if the console logs a warning or an error."""
        self.resize(1440, 900)
        self.errors()
        self.driver.get(url)
        yield
        assert self.errors() == []
        self.driver.get("about:blank")

    @contextmanager
    def loading(self, script: str) -> Iterator[None]:
        """Runs a script in each page that is loaded, before the page's own."""
        script = f"(() => {{{script}}})()"
        added = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        yield
        self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self, id: str) -> str:
        return str(self.driver.find_element(By.ID, id).text)

    def is_pressed(self, id: str) -> bool:
        return bool(self.driver.find_element(By.ID, id).get_attribute("aria-pressed") == "true")

    def press(self, id: str) -> None:
        self.driver.find_element(By.ID, id).click()

    def type(self, keys: str) -> None:
        ActionChains(self.driver).send_keys(keys).perform()

    def image(self, png: str) -> Image:
        """Returns a PNG in base64, as a script returned it, as (H, W, 3) uint8 BGR."""
        return np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), 1), np.uint8)

    def errors(self) -> list[str]:
        """Warnings and errors in the console."""
        log: Any = self.driver.get_log  # its annotations are missing
        logged = [entry["message"] for entry in log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        return [message for message in logged if not message.endswith("No available adapters.")]  # of WebGPU: Chromium's own note


AnyBrowser = TypeVar("AnyBrowser", bound=Browser)


@contextmanager
def browsing(browser_type: type[AnyBrowser], tmp_path_factory: pytest.TempPathFactory, *flags: str) -> Iterator[AnyBrowser]:
    """Starts Chromium; skips the test without it."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    browser = browser_type(tmp_path_factory.mktemp("profile"), *flags)
    try:
        yield browser
    finally:
        browser.driver.quit()
