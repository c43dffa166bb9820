"""The live page in Chromium with its fake camera, at desktop and phone size."""

from __future__ import annotations

import base64
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

import cyclecast
from cyclecast.video.cameras import VideoDevice
from cyclecast.video.clock import read_clock
from cyclecast.video.frame import Image
from cyclecast.video.live.sinks.web_options import WebOptions
from tests.browser import CUT, Browser, browsing
from tests.video.live.served import LOOPBACK, MAX_VIEWERS, STYLES, age, eventually, is_swapped, serving

selenium = pytest.importorskip("selenium", reason="needs selenium")

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

from cyclecast.video.live.capture.client import Capture  # noqa: E402
from cyclecast.video.live.capture.source_switcher import SourceSwitcher  # noqa: E402
from cyclecast.video.live.sinks.web.start_screen import StartScreen  # noqa: E402
from cyclecast.video.live.sinks.web.viewers import Viewer  # noqa: E402

MODELS = Path(cyclecast.__file__).parent / "models"

NO_UDP = "--webrtc-ip-handling-policy=disable_non_proxied_udp"
FRAME = """
const [video, image] = ["video", "image"].map(id => document.getElementById(id)), by = image?.hidden ? video : image;
if (!video || !image) return null;  // the page is loading
const canvas = document.createElement("canvas");
canvas.width = video.videoWidth || image.naturalWidth;
canvas.height = video.videoHeight || image.naturalHeight;
if (!canvas.width) return null;
canvas.getContext("2d").drawImage(by, 0, 0);
return canvas.toDataURL("image/png").split(",")[1];
"""
LIVE = "return document.getElementById('status')?.textContent === 'live'"  # false while the page loads
ANNOUNCED = """
[window.announced, window.polls] = [[], 0];
new MutationObserver(() => announced.push(document.getElementById("status").textContent))
  .observe(document.getElementById("status"), {childList: true, characterData: true, subtree: true});
new MutationObserver(() => polls++).observe(document.getElementById("fps"), {childList: true});
"""  # lists what a screen reader announces from now on
LOCKS = """
window.locks = [];
if (navigator.wakeLock) {
  const request = navigator.wakeLock.request.bind(navigator.wakeLock);
  navigator.wakeLock.request = type => request(type).then(lock => { locks.push(lock); return lock; });
}
"""  # lists the locks that keep the screen on
RELEASED = "return locks.map(lock => lock.released)"
NO_STORAGE = """
Object.defineProperty(window, "localStorage", {get() { throw new DOMException("blocked", "SecurityError"); }});
if (navigator.wakeLock) navigator.wakeLock.request = () => Promise.reject(new DOMException("refused", "NotAllowedError"));
"""


class LiveBrowser(Browser):
    """Chromium, and what a user sees in it of the live page."""

    def frame(self) -> Image | None:
        """Returns what the page shows, (H, W, 3) uint8 BGR; None before the first frame."""
        data = self.run(FRAME)
        return None if data is None else self.image(data)

    def halves(self) -> tuple[bool, bool] | None:
        """Returns whether red and blue are swapped in the left and in the right half; None before the first frame."""
        image = self.frame()
        return None if image is None else (is_swapped(image[:, :140]), is_swapped(image[:, 180:]))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBrowser]:
    with browsing(LiveBrowser, tmp_path_factory) as browser:
        yield browser


def test_the_video_moves_and_changes_with_the_style(browser: LiveBrowser) -> None:
    with serving() as served, browser.visiting(served.page.url):
        eventually(lambda: browser.halves() == (False, False), "a frame")
        assert browser.text("transport") == "WebRTC"
        clocks = set()

        def moving() -> bool:
            image = browser.frame()
            assert image is not None and image.shape == (240, 320, 3) and age(image) < 2
            clocks.add(read_clock(image))
            return len(clocks) > 4

        eventually(moving, "moving video")
        seen, sent = browser.frame(), served.session.newest
        assert seen is not None and sent is not None
        assert np.abs(seen[:40].mean((0, 1)) - sent.styled[:40].mean((0, 1))).max() < 6  # the sky hardly moves
        assert browser.run("return document.querySelector('.style[aria-pressed=true]').textContent") == "same"
        browser.driver.find_elements(By.CLASS_NAME, "style")[1].click()
        eventually(lambda: browser.halves() == (True, True), "the other style")
        eventually(
            lambda: browser.run("return document.querySelector('.style[aria-pressed=true]').textContent") == "swapped",
            "the pressed button",
        )
        browser.type("1")
        eventually(lambda: browser.halves() == (False, False), "the first style, by its key")
        eventually(lambda: float(browser.text("fps")) > 3 and int(browser.text("latency")) > 0, "frame rate and latency")


def test_a_style_that_cannot_be_loaded_is_reported(browser: LiveBrowser) -> None:
    with serving(styles=("same", "absent")) as served, browser.visiting(served.page.url):
        eventually(lambda: browser.halves() == (False, False), "a frame")
        browser.driver.find_elements(By.CLASS_NAME, "style")[1].click()
        eventually(lambda: "Could not load absent" in browser.text("toasts"), "the message", seconds=10)
        assert browser.run("return document.querySelector('.style[aria-pressed=true]').textContent") == "same"
        assert browser.run("return document.querySelector('.style[aria-busy=true]')") is None


def test_the_slider_shows_the_source_on_its_left(browser: LiveBrowser) -> None:
    with serving(styles=("swapped",)) as served, browser.visiting(served.page.url):
        eventually(lambda: browser.halves() == (True, True), "the style")
        browser.press("compare")
        eventually(lambda: browser.halves() == (False, True), "the source on the left")
        handle = browser.driver.find_element(By.ID, "handle")
        assert handle.get_attribute("aria-valuenow") == "50"
        width = browser.driver.find_element(By.ID, "frame").rect["width"]
        ActionChains(browser.driver).drag_and_drop_by_offset(handle, int(width / 2) - 1, 0).perform()
        eventually(lambda: browser.halves() == (False, False), "the source alone")
        assert handle.get_attribute("aria-valuenow") == "100"
        browser.run("document.getElementById('handle').focus()")
        browser.type(webdriver.Keys.HOME)
        eventually(lambda: browser.halves() == (True, True), "the style alone, by a key")
        browser.type(webdriver.Keys.ARROW_RIGHT)
        assert handle.get_attribute("aria-valuenow") == "2"
        box = browser.driver.find_element(By.ID, "frame").rect
        where = {"x": box["x"] + 0.5 * box["width"], "y": box["y"] + 0.2 * box["height"]}
        for event, points in (("touchStart", [where]), ("touchMove", [where | {"x": where["x"] + 5}]), ("touchEnd", [])):
            browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": event, "touchPoints": points})
        eventually(lambda: browser.halves() == (False, True), "half and half, by touch")


def test_the_strength_has_a_slider_and_keys(browser: LiveBrowser) -> None:
    with serving(styles=("swapped",), strength=0.8) as served, browser.visiting(served.page.url):
        switcher = served.session.switcher
        slider = browser.driver.find_element(By.ID, "strength")
        eventually(lambda: browser.text("strength-value") == "80 %", "the strength of the run")
        eventually(lambda: browser.halves() == (True, True), "the style")
        ActionChains(browser.driver).drag_and_drop_by_offset(slider, -int(slider.rect["width"] / 2) - 20, 0).perform()
        eventually(lambda: switcher.strength == 0, "the strength that was set by dragging")
        eventually(lambda: browser.halves() == (False, False), "the source")
        assert browser.text("strength-value") == "0 %" and slider.get_attribute("aria-valuetext") == "0 %"
        assert slider.accessible_name == "Strength"
        assert browser.driver.find_element(By.ID, "strength-value").aria_role != "status", "the value is not announced twice"
        browser.type("]]]")
        eventually(lambda: switcher.strength == 0.3, "the strength after three keys")
        browser.type("[")
        eventually(lambda: switcher.strength == 0.2, "a lower strength, by its key")
        browser.run("document.getElementById('strength').focus()")
        browser.type(webdriver.Keys.ARROW_RIGHT)
        eventually(lambda: switcher.strength == 0.21, "the slider moved by an arrow key")
        assert not browser.is_pressed("compare"), "the arrow key is for the focused slider alone"
        switcher.request_strength(0.9)  # by another viewer
        eventually(lambda: browser.text("strength-value") == "90 %" and slider.get_property("value") == "0.9", "its strength")


def test_snapshot_mirror_and_record(browser: LiveBrowser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    browser.driver.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    with serving() as served, browser.visiting(served.page.url):
        eventually(lambda: browser.frame() is not None, "a frame")
        browser.press("snapshot")

        def saved() -> list[Image]:  # the browser creates the file before it writes it
            images = [cv2.imread(str(path)) for path in downloads.glob("cyclecast-*.png")]
            return [np.asarray(image, np.uint8) for image in images if image is not None]

        eventually(saved, "the snapshot")
        assert read_clock(saved()[0]) is not None
        browser.press("mirror")
        eventually(lambda: served.session.switcher.mirror, "the mirror")
        eventually(lambda: browser.is_pressed("mirror"), "the state of the button")
        assert browser.text("mirror") == "Mirror"
        browser.type("m")
        eventually(lambda: not served.session.switcher.mirror, "the mirror off, by its key")
        browser.type("h")
        assert browser.driver.find_element(By.ID, "keys").is_displayed()
        browser.driver.find_element(By.CSS_SELECTOR, "#keys button").click()
        eventually(lambda: not browser.driver.find_element(By.ID, "keys").is_displayed(), "the dialog closes")
        browser.press("record")
        eventually(lambda: served.session.recording is not None, "a recording")
        eventually(lambda: browser.text("record") == "Stop recording", "the label of the button")
        assert browser.driver.find_element(By.ID, "record").get_attribute("aria-pressed") is None
        assert browser.text("recording") == "recording"
        name = served.session.recording
        # A page that has not heard of the recording yet: its click wants one as well, and so does a double click.
        browser.run("state.recording = null; const button = document.getElementById('record'); button.click(); button.click()")
        eventually(lambda: browser.run("return !document.getElementById('record').disabled"), "the answer")
        assert served.session.recording == name and browser.text("record") == "Stop recording"
        served.post("/api/record", on=False)  # by another viewer
        eventually(lambda: name is not None and f"Recorded {name.name}" in browser.text("toasts"), "the recording's end")
        assert browser.text("record") == "Record" and not browser.text("recording")


def test_shortcuts_can_be_switched_off(browser: LiveBrowser) -> None:
    def switch() -> None:
        browser.press("help")
        browser.press("keys-on")
        browser.driver.find_element(By.CSS_SELECTOR, "#keys button").click()

    def is_comparing_after(keys: str) -> bool:
        browser.type(keys)
        return browser.is_pressed("compare")

    hint = "return document.getElementById('compare').title"
    with serving() as served, browser.visiting(served.page.url):
        eventually(lambda: browser.text("status") == "live", "the video")
        assert is_comparing_after("s") and not is_comparing_after("s") and browser.run(hint) == "Shortcut: s"
        for element in browser.driver.find_elements(By.CSS_SELECTOR, "button, input"):
            assert not element.accessible_name or element.accessible_name not in str(element.get_attribute("title"))
        browser.run("const field = document.createElement('input'); document.body.append(field); field.focus()")
        assert not is_comparing_after("s") and browser.run("return document.activeElement.value") == "s"
        browser.run("document.activeElement.remove()")
        switch()
        assert not is_comparing_after("s,") and browser.run(hint) == ""
        browser.driver.refresh()
        eventually(lambda: browser.run(LIVE), "the page again")
        assert not is_comparing_after("s.") and browser.run(hint) == ""
        browser.run("document.getElementById('strength').focus()")
        assert is_comparing_after(webdriver.Keys.TAB + webdriver.Keys.ENTER)
        assert not is_comparing_after(webdriver.Keys.SPACE)
        browser.run("localStorage.clear()")
        with browser.loading(NO_STORAGE):
            browser.driver.refresh()
            eventually(lambda: browser.run(LIVE), "the video without storage and without a wake lock")
            assert is_comparing_after("s")
            switch()
            assert is_comparing_after("s")


def test_the_page_reports_a_recording_that_fails(browser: LiveBrowser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving() as served, browser.visiting(served.page.url):
        eventually(lambda: browser.frame() is not None, "a frame")
        browser.press("record")
        eventually(lambda: browser.text("record") == "Stop recording", "a recording")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=100 << 30, free=1 << 20))
        eventually(lambda: "the disk is almost full (1 MiB free)" in browser.text("toasts"), "the message on the page")
        eventually(lambda: browser.text("record") == "Record", "the label of the button")
        assert browser.text("recording") == "recording failed" and "Recorded" not in browser.text("toasts")
        browser.driver.refresh()
        eventually(lambda: "the disk is almost full (1 MiB free)" in browser.text("toasts"), "the message for another viewer")


def test_a_viewer_without_room_is_told_and_gets_the_video_later(browser: LiveBrowser) -> None:
    with serving() as served, browser.visiting(served.page.url):
        eventually(lambda: browser.frame() is not None, "a frame")
        browser.driver.get("about:blank")
        viewers = served.page._viewers
        eventually(lambda: served.viewers() == 0, "no viewer")
        others = [Viewer(str(number), "mjpeg", None) for number in range(MAX_VIEWERS)]
        for other in others:
            viewers.add(other)
        browser.driver.get(served.page.url)
        eventually(lambda: browser.text("overlay-title") == f"{MAX_VIEWERS} people are watching", "the message")
        assert "no room" in browser.text("overlay-detail") and browser.text("status") == "full"
        browser.resize(320, 568)
        browser.run("document.documentElement.style.fontSize = '200%'")
        room = "const {scrollHeight, clientHeight} = document.getElementById('overlay'); return clientHeight - scrollHeight"
        assert browser.run(room) == 0, "the message can be read without scrolling in it"
        browser.run("showToast('Could not load a-style-with-a-long-name; the terminal of cyclecast shows why')")
        assert browser.run(room) == 0 and browser.run(CUT) == []
        viewers.remove(others[0])
        eventually(lambda: browser.halves() == (False, False), "the video, once there is room")
        browser.errors()  # the answer 503 is one


def test_the_token_can_be_typed(browser: LiveBrowser) -> None:
    with serving(address=f"{LOOPBACK}?token=a-token-of-mine") as served:
        browser.driver.get(f"{served.origin}/")
        field = browser.driver.find_element(By.ID, "token")
        assert browser.run("return document.activeElement.id") == "token"
        assert browser.text("error") == ""
        field.send_keys("wrong", webdriver.Keys.ENTER)
        is_visible = "return Boolean(document.getElementById('error')?.checkVisibility())"  # false while the page loads
        eventually(lambda: browser.run(is_visible), "the page again, with an error")
        assert browser.text("error") == "That is not the token of this run."
        browser.resize(320, 568)
        browser.run("document.documentElement.style.fontSize = '200%'")
        assert browser.run("return getComputedStyle(document.querySelector('label')).fontSize") == "32px"
        assert browser.run(CUT) == []
        browser.resize(1440, 900)
        browser.driver.find_element(By.ID, "token").send_keys("a-token-of-mine", webdriver.Keys.ENTER)
        eventually(lambda: browser.frame() is not None, "a frame")
        assert "token" not in browser.driver.current_url
        browser.driver.get(f"{served.origin}/")
        eventually(lambda: browser.frame() is not None, "a frame, with the cookie")
        browser.driver.get("about:blank")
        browser.errors()


def test_everything_fits_on_a_phone_and_on_a_desktop(
    browser: LiveBrowser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "expressive-watercolor-of-the-northern-sea"
    monkeypatch.setitem(STYLES, name, STYLES["same"])
    options = WebOptions(web_app="https://styles.example/site/")
    served_page = serving(styles=("same", name, "negative"), split=0.0, web_options=options)
    with served_page as served, browser.visiting(served.page.url):
        eventually(lambda: browser.frame() is not None, "a frame")
        link = "const {href, hidden} = document.getElementById('web-app'); return [href, hidden]"
        assert browser.run(link) == ["https://styles.example/site/", False]
        served.post("/api/record", on=True)
        eventually(lambda: browser.text("record") == "Stop recording", "the longest labels")
        sizes = ((1440, 900), (844, 390), (390, 844), (360, 740), (320, 568))
        for zoom, (width, height) in itertools.product((100, 200), sizes):
            browser.run("document.documentElement.style.fontSize = `${arguments[0]}%`", zoom)
            browser.resize(width, height)
            assert browser.run("return [innerWidth, innerHeight]") == [width, height]
            assert browser.run("return document.documentElement.scrollWidth") == width
            assert browser.run("return getComputedStyle(document.querySelector('.style')).fontSize") == f"{0.15 * zoom:g}px"
            assert browser.run(CUT) == []
            browser.run("document.getElementById('keys').showModal()")
            assert browser.run(CUT) == []
            browser.run("document.getElementById('keys').close()")
            if zoom == 100 and width > 360:
                assert browser.run("return document.documentElement.scrollHeight") == height
            boxes = "return [...document.querySelectorAll('button, #handle')].map(b => b.getBoundingClientRect().toJSON())"
            seen = [size for size in browser.run(boxes) if size["width"]]
            assert len(seen) >= 8 and all(size["height"] >= 44 and size["left"] >= 0 and size["right"] <= width for size in seen)
            frame = browser.run("return document.getElementById('frame').getBoundingClientRect().toJSON()")
            assert frame["width"] / frame["height"] == pytest.approx(4 / 3, abs=0.02) and frame["height"] >= 0.4 * min(
                width, height
            )


def test_the_page_switches_to_mjpeg_where_webrtc_is_blocked(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        browsing(LiveBrowser, tmp_path_factory, NO_UDP) as browser,
        serving() as served,
        browser.visiting(served.page.url),
    ):
        eventually(lambda: browser.text("transport") == "MJPEG", "MJPEG")
        eventually(lambda: browser.halves() == (False, False), "a frame")
        assert "No video over WebRTC" in browser.text("toasts")
        image = browser.frame()
        assert image is not None and age(image) < 2
        served.post("/api/model", name="swapped")
        eventually(lambda: browser.halves() == (True, True), "the other style")
        browser.press("compare")
        eventually(lambda: browser.halves() == (False, True), "the slider")
        assert served.viewers() == 1


def test_the_page_shows_the_browser_s_own_camera_styled(browser: LiveBrowser) -> None:
    def color() -> Any:
        image = browser.frame()
        return None if image is None else image[image.shape[0] // 4 : image.shape[0] // 2].mean((0, 1))

    def is_magenta() -> bool:  # Chromium's fake camera is green
        found = color()
        return found is not None and found[0] > 150 and found[2] > 150 and found[1] < 150

    with serving("browser", styles=("negative", "same")) as served, browser.visiting(served.page.url):
        push_feed = served.session.feed
        eventually(lambda: browser.text("overlay-title") == "Waiting for a camera", "the page waits")
        assert browser.text("status") == "waiting"
        browser.press("camera")
        eventually(is_magenta, "the camera's negative")
        eventually(lambda: browser.text("camera") == "Stop this camera", "the label of the button")
        assert served.state()["captured"] > 0 and push_feed.outage is None
        browser.press("camera")
        eventually(lambda: push_feed.outage is not None, "the camera is disconnected")
        eventually(lambda: browser.text("status") == "disconnected", "the message on the page")
        assert push_feed.outage is not None and push_feed.outage[0] in browser.text("source")
        browser.press("camera")
        eventually(lambda: push_feed.outage is None, "the camera again")
        browser.driver.get("about:blank")
        eventually(lambda: push_feed.outage is not None, "the camera of a closed page is disconnected")


def test_the_page_reports_the_end_of_the_run_and_reconnects_to_the_next(browser: LiveBrowser) -> None:
    with browser.loading(LOCKS), serving() as served:
        browser.driver.get(served.page.url)
        eventually(lambda: browser.text("status") == "live", "a frame")
        eventually(lambda: browser.run(RELEASED) == [False], "the screen stays on")
        window = browser.driver.current_window_handle
        browser.driver.switch_to.new_window("tab")
        browser.driver.close()
        browser.driver.switch_to.window(window)
        eventually(lambda: browser.run(RELEASED)[::-1][:2] == [False, True], "the screen stays on again after another tab")
        browser.run(ANNOUNCED)
        eventually(lambda: browser.run("return polls") > 1, "two answers")
    eventually(lambda: browser.text("overlay-title") == "cyclecast has ended", "the message on the page")
    assert browser.run("return announced")[-1] == "ended"
    eventually(lambda: all(browser.run(RELEASED)), "the screen may turn off")
    with serving(address=served.page.url.replace("http", "web")):
        eventually(lambda: browser.run("return document.getElementById('overlay').hidden"), "the video without the overlay")
        eventually(lambda: browser.halves() == (False, False), "the video of the next run")
        eventually(lambda: browser.text("status") == "live", "the word for it")
        announced = browser.run("return announced")
        assert announced[-1] == "live" and all(now != then for then, now in itertools.pairwise(announced)), "each state once"
        browser.driver.get("about:blank")


def test_the_page_for_obs_shows_the_video_alone_and_reconnects(browser: LiveBrowser) -> None:
    token = "?token=a-token-for-obs"

    def screenshot() -> Image:
        """Returns the whole page, (H, W, 4) uint8 BGRA; what it leaves open is transparent."""
        data = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
        return np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)

    def is_video(image: Image) -> bool:  # 4:3 in the middle of a wide page
        return bool(image.shape[2] == 4 and (image[:, :200, 3] == 0).all() and (image[20:-20, 400:800, 3] == 255).all())

    browser.resize(1200, 480)
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.driver.execute_cdp_cmd("Emulation.setDefaultBackgroundColorOverride", {"color": {"r": 0, "g": 0, "b": 0, "a": 0}})
    try:
        with serving(styles=("swapped",), address=LOOPBACK + token) as served:
            browser.driver.get(f"{served.origin}/obs{token}")
            assert browser.driver.get_cookies() == [], "the token of the address is enough"
            eventually(lambda: browser.halves() == (True, True), "the styled video")
            assert browser.text("transport") == "" and browser.run("return document.body.innerText.trim()") == ""
            eventually(lambda: is_video(screenshot()), "the video, opaque, with transparent bars")
            served.session.queue.set_split(0.5)
            eventually(lambda: browser.halves() == (False, True), "the split view of the run")
            served.session.queue.set_split(None)
            eventually(lambda: browser.halves() == (True, True), "the style alone")
            address = served.page.url.replace("http", "web")
        eventually(lambda: screenshot().shape[2] == 4 and not screenshot()[..., 3].any(), "nothing after the end of the run")
        with serving(styles=("same",), address=address):
            eventually(lambda: browser.halves() == (False, False), "the video of the next run")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setDefaultBackgroundColorOverride", {})
        browser.driver.get("about:blank")


def test_the_start_screen_opens_a_source_and_switches_outputs(
    browser: LiveBrowser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    camera = VideoDevice("pattern://320x240@15", "HD Webcam", "camera", None, None)  # whose name stands for what it delivers
    locked = VideoDevice("/dev/video9", "Locked", "unknown", "no permission", "video")
    screen = StartScreen({"swapped": MODELS / "monet.jpg"}, lambda: [camera, locked])
    with serving(SourceSwitcher(Capture), screen=screen) as served, browser.visiting(served.page.url):
        eventually(lambda: browser.run("return document.getElementById('cameras').children.length") == 2, "the cameras")
        for size in ((390, 844), (1440, 900)):
            browser.resize(*size)
            assert browser.run(CUT) == []
        one, other = browser.driver.find_elements(By.CSS_SELECTOR, "#cameras button")
        assert one.is_enabled() and not other.is_enabled() and "no permission" in str(other.get_attribute("title"))
        browser.driver.find_element(By.ID, "path").send_keys("/no/such.mp4\n")
        eventually(lambda: browser.text("start-failure") == "/no/such.mp4: no such file on this machine", "the failure")
        assert [message for message in browser.errors() if "409" not in message] == []
        one.click()
        eventually(lambda: browser.run(LIVE), "video of the camera")
        assert not browser.run("return document.getElementById('start').open")
        images = "return [...document.querySelectorAll('.style img')].map(image => image.naturalWidth)"
        assert browser.run(images) == [192], "the style without a sample has no image"
        browser.type("o")
        browser.press("record-on")
        eventually(lambda: browser.run("return document.getElementById('record-on').checked && state.recording"), "a recording")
        browser.press("record-on")
        eventually(lambda: list(tmp_path.glob("cyclecast-*[0-9].mp4")), "the recording is finished")
        browser.press("quit")
        eventually(lambda: not served.running.is_alive(), "the end of the run")
        browser.errors()  # the page asks a server that is gone
