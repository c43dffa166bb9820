"""A page contains everything it shows, escapes all text, and draws any losses of a run."""

from __future__ import annotations

import base64
import re
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cyclecast import __version__
from cyclecast.errors import OutputError
from cyclecast.training.report.chart import format_number, linear_ticks, make_line, smooth_values, thin_points, value_axis
from cyclecast.training.report.page import Cell, Page, data_uri
from tests.conftest import moving_frames

VOID = {"meta", "link", "img", "br", "hr", "input"}
HOSTILE = "</title><script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


class Reader(HTMLParser):
    """Fails on a tag that is closed out of turn; collects tags, addresses and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        assert not any(name.startswith("on") for name in names)
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def full_page() -> Page:
    page = Page("A run", "of `cyclegan`")
    page.facts({"steps": 5000, "pairs per second": 7.48123, "checkpoint": Path("runs/tiny/last.pt"), "exported": True})
    page.heading("Losses")
    page.text("One paragraph.\n\nAnother, with `code`.")
    steps = np.arange(1, 10_001)
    noise = np.random.default_rng(0).lognormal(0, 0.3, (4, steps.size))
    page.curves({f"loss {index}": (steps, row) for index, row in enumerate(noise)}, "Falling.", log=True, unit="nats")
    page.table(["model", "FID"], [["a", 87.31], ["b", 91.5]], "Two models.", best={"FID": "low"})
    page.image(moving_frames(1)[0], "A bar.")
    page.details("Config", {"ngf": 64, "optim": {"rate": 2e-4}})
    page.details("Command", "cyclecast train <recipe>")
    return page


def curves(**series: tuple[object, object]) -> str:
    page = Page("t")
    page.curves(series, smooth=True)  # type: ignore[arg-type]
    html = page.html()
    Reader(html)
    assert not re.search(r"\b(nan|inf)\b", "".join(re.findall(r'(?:d|data-\w+|style)="([^"]*)"', html)))
    return page.blocks[0]


def decoded(uri: str) -> NDArray[np.uint8]:
    data = np.frombuffer(base64.b64decode(uri.partition(",")[2], validate=True), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)


def test_the_page_parses_and_loads_nothing() -> None:
    html = full_page().html()
    reader = Reader(html)
    assert {"dl", "svg", "table", "img", "details", "dialog"} <= set(reader.tags)
    assert len(reader.addresses) >= 2 and all(address.startswith("data:") for address in reader.addresses)
    assert not re.search(r"https?:|//\w+\.|url\(|@import|fetch\(", re.sub(r"base64,[^\"]*", "", html))


def test_the_page_ends_with_version_and_date() -> None:
    assert f"<footer>cyclecast {__version__}, {date.today().isoformat()}</footer>" in full_page().html()


def test_html_in_any_text_is_escaped() -> None:
    page = Page(HOSTILE, HOSTILE)
    page.heading(HOSTILE)
    page.text(HOSTILE)
    page.facts({HOSTILE: HOSTILE})
    page.table([HOSTILE], [[HOSTILE]], HOSTILE)
    page.image(np.zeros((2, 2), np.uint8), HOSTILE)
    page.curves({HOSTILE: ([1, 2], [1, 2])}, HOSTILE, x=HOSTILE, unit=HOSTILE)
    page.curves({}, HOSTILE)
    page.details(HOSTILE, HOSTILE)
    page.details(HOSTILE, {HOSTILE: HOSTILE})
    reader = Reader(page.html())
    assert reader.tags.count("script") == 1 and reader.tags.count("img") == 1
    assert sum(HOSTILE in text for text in reader.text) >= 17


def test_the_page_replaces_an_older_one_atomically(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.html"
    full_page().write(path)
    Page("later \udcff").write(path)  # a name from the file system that is no text
    assert "<h1>later ?</h1>" in path.read_text("utf-8")
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(OutputError):
        full_page().write(tmp_path / "new")


@pytest.mark.parametrize("shape", [(48, 64, 3), (48, 64), (1, 1, 3), (300, 400, 3)])
def test_an_embedded_image_keeps_its_size_and_nearly_its_colors(shape: tuple[int, ...]) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = (np.stack([x, y, 200 - x // 2], 2) % 256).astype(np.uint8)
    image = image if len(shape) == 3 else np.ascontiguousarray(image[..., 0])
    back = decoded(data_uri(image))
    back = back[..., 0] if len(shape) == 2 and back.ndim == 3 else back
    assert back.shape == shape
    assert np.abs(back.astype(int) - image).mean() < 4


def test_drawings_are_embedded_losslessly_and_photos_compressed() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    photo = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.uint8)
    drawing = np.zeros((256, 256, 3), np.uint8)
    drawing[64:128] = (0, 114, 178)
    np.testing.assert_array_equal(decoded(data_uri(photo, exact=True)), photo)
    np.testing.assert_array_equal(decoded(data_uri(drawing)), drawing)
    assert len(data_uri(photo)) < len(data_uri(photo, exact=True)) / 2
    assert data_uri(np.random.default_rng(0).integers(0, 256, (2, 20_000, 3), np.uint8)).startswith("data:image/jpeg")


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)])
def test_arrays_that_are_not_images_are_rejected(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        Page("t").image(image)


@pytest.mark.parametrize("value", [0.0, -3.5, 1e-12, 1e12, 1e300, -1e-300, 123456.75])
@pytest.mark.parametrize("count", [1, 2, 100])
@pytest.mark.parametrize("log", [False, True])
def test_constants_and_single_points_are_drawn(value: float, count: int, log: bool) -> None:
    page = Page("t")
    page.curves({"constant": (np.arange(count), np.full(count, value))}, log=log)
    Reader(page.html())
    drawable = abs(value) < 1e150 and (value > 0 or not log)
    assert ("<svg" in page.blocks[0]) == drawable
    assert ("No values to draw" in page.blocks[0]) != drawable


def test_nan_and_infinite_values_are_left_out_and_counted() -> None:
    values = [1.0, float("nan"), float("inf"), 2.0, None, float("-inf")]
    block = curves(loss=(range(6), values), gone=([1], [float("nan")]))
    assert 'data-steps="0 3" data-values="1 2"' in block
    assert "5 left out: not a number." in block
    assert "No values to draw" in curves() and "No values to draw" in curves(loss=([], []))


def test_a_log_chart_leaves_out_values_up_to_0() -> None:
    page = Page("t")
    page.curves({"loss": ([0, 1, 2, 3], [0, -1, 0.01, 100])}, log=True)
    assert "2 left out: not a number above 0." in page.blocks[0]
    assert 'data-values="0.01 100"' in page.blocks[0]


def test_steps_and_values_must_have_equal_counts() -> None:
    with pytest.raises(ValueError, match="loss: 3 steps for 2 values"):
        Page("t").curves({"loss": ([1, 2, 3], [1, 2])})


def test_long_series_stay_small() -> None:
    generator = np.random.default_rng(0)
    block = curves(**{f"s{index}": (np.arange(10_000), generator.random(10_000)) for index in range(4)})
    assert len(block) < 150_000


def test_thinning_keeps_ends_peaks_and_order() -> None:
    steps = np.arange(10_000.0)
    values = np.random.default_rng(0).random(10_000)
    values[[1234, 7777]] = 9, -9
    x, y = thin_points(steps, values)
    assert x.size < 1000 and (np.diff(x) > 0).all()
    assert {0.0, 9999.0, 1234.0, 7777.0} <= set(x)
    np.testing.assert_array_equal(values[x.astype(int)], y)


def test_steps_out_of_order_are_sorted() -> None:
    line = make_line("resumed", [3, 1, 2], [30, 10, 20], log=False, smooth=True)
    assert line.steps.tolist() == [1, 2, 3] and line.main.tolist() == [10, 20, 30]


def test_smoothing_keeps_a_line_and_calms_noise() -> None:
    line = np.linspace(0, 1, 1000)
    np.testing.assert_allclose(smooth_values(line)[50:-50], line[50:-50])
    noisy = line + np.random.default_rng(0).normal(0, 0.3, 1000)
    assert np.abs(smooth_values(noisy) - line).max() < 0.3


def test_axes_have_round_ticks_that_differ() -> None:
    assert [label for _, label in linear_ticks(0, 5000)] == ["0", "1000", "2000", "3000", "4000", "5000"]
    assert [label for _, label in linear_ticks(0, 200_000, 4)] == ["0", "50k", "100k", "150k", "200k"]
    assert [value for value, _ in linear_ticks(0, 2, whole=True)] == [0, 1, 2]
    for low, high in [(1e6, 1e6 + 4), (-1e-9, 3e-9), (-7, 1e20), (0.1234, 0.1235)]:
        labels = [label for _, label in linear_ticks(low, high)]
        assert 3 <= len(labels) <= 8 and len(set(labels)) == len(labels)
    for values in ([0.3, 0.31], [0.01, 0.9], [1e-9, 1e9]):
        axis = value_axis(np.log10(values), log=True)
        assert 2 <= len(axis.ticks) <= 8 and all(axis.low <= at <= axis.high for at, _ in axis.ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [(5000, "5000"), (7.48123, "7.481"), (2e-4, "0.0002"), (1.5e-7, "1.5e-7"), (123456.7, "123457"), (1e9, "1e9"), (0.0, "0")]
    + [(float("nan"), "–"), (True, "yes"), (np.float32(0.5), "0.5"), (np.int64(7), "7"), ("text", "text"), (-0.25, "-0.25")],
)
def test_numbers_have_four_digits_and_short_exponents(value: object, text: str) -> None:
    assert format_number(value) == text


def test_a_table_aligns_numbers_and_marks_the_best() -> None:
    page = Page("t")
    rows: list[list[Cell]] = [["a", 12.3, 3, 0.5], ["b", 8.25, 40, float("nan")], ["c", 8.25, "", None]]
    page.table(["model", "ms", "steps", "score"], rows, best={"ms": "low", "steps": "high"})
    block = page.blocks[0]
    assert '<td class="number">12.30</td>' in block and block.count("<strong>8.25</strong>") == 2
    assert "<strong>40</strong>" in block and '<th scope="col">model</th>' in block
    assert block.count('<th scope="col" class="number">') == 3


def test_a_table_rejects_ragged_rows_and_unknown_columns() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells below 2 columns"):
        Page("t").table(["a", "b"], [[1]])
    with pytest.raises(ValueError, match="no column is called c; they are a, b"):
        Page("t").table(["a", "b"], [[1, 2]], best={"c": "low"})


def test_details_name_nested_settings_and_show_all_their_digits() -> None:
    page = Page("t")
    page.details("Config", {"optim": {"rate": 0.00012345}, "augment": True})
    assert '<th scope="row">optim.rate</th><td>0.00012345</td>' in page.blocks[0]
    assert '<th scope="row">augment</th><td>yes</td>' in page.blocks[0]
