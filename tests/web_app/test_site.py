"""The site that `web-app` writes: complete, with nothing from elsewhere, and replaced only if it is one of ours."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from cyclecast.card import MOST_THUMBNAIL
from cyclecast.errors import OutputError, OutputExistsError
from cyclecast.runtime.bench import psnr_db
from cyclecast.runtime.engines import open_engine
from cyclecast.runtime.model import find_model
from cyclecast.video.scene import Scene
from cyclecast.web_app import runtime
from cyclecast.web_app.folder import check_folder, write_folder
from cyclecast.web_app.site import STATIC
from tests.commands import run_command

GOLDEN = Path(__file__).parent.parent / "golden" / "models"
CARD = "# mine\n\nPaints it. Well.\n\n| | |\n|---|---|\n| author | A. Painter |\n| license | CC BY 4.0 |\n"
TEXTS = {".html", ".js", ".css", ".json", ".webmanifest", ".svg"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of a bundled model and of a user's, whose graph is of an older version, with a stand-in for ONNX Runtime."""
    folder = tmp_path_factory.mktemp("web-app")
    shutil.copyfile(GOLDEN / "frame-fp32.onnx", folder / "My Läke.onnx")
    (folder / "My Läke.md").write_text(CARD, "utf-8")
    (ort := folder / "ort").mkdir()
    for name in runtime.FILES:
        (ort / name).write_bytes(name.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "FILES", {name: hashlib.sha256(name.encode()).hexdigest() for name in runtime.FILES})
        models = ("-m", "pencil", "-m", folder / "My Läke.onnx")
        done = run_command("web-app", "-o", folder / "site", *models, "--runtime", ort, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["output"] == str(folder / "site") and all(model["psnr_db"] >= 40 for model in report["models"])
    return folder / "site"


def read(site: Path, name: str) -> Any:
    return json.loads((site / name).read_bytes())


def test_the_site_is_complete_and_its_lists_have_the_hash_of_each_file(site: Path) -> None:
    found = {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    listed = {file["path"]: file for file in read(site, "files.json")["files"]}
    assert found.keys() - listed.keys() <= {"files.json", "sw.js"} and listed.keys() <= found.keys()
    page = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert found.keys() >= page | {f"ort/{name}" for name in runtime.FILES} | {"ort/LICENSE.txt", "models.json"}
    assert b"Microsoft" in found["ort/LICENSE.txt"] and b"dawn" in found["ort/ThirdPartyNotices.txt"]
    entries = read(site, "models.json")["models"]
    for file in [*listed.values(), *(file for entry in entries for file in entry["files"].values())]:
        content = found[file["path"]]
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    if "sw.js" in page:
        assert read(site, "files.json")["version"].encode() in found["sw.js"] and b"__VERSION__" not in found["sw.js"]
    for path, content in found.items():
        if Path(path).suffix in TEXTS:
            addresses = set(re.findall(rb"https?://[\w.-]*", content))
            assert addresses <= {b"http://www.w3.org"}, path


def test_each_model_is_described_and_has_a_small_thumbnail(site: Path) -> None:
    pencil, mine = read(site, "models.json")["models"]
    assert (pencil["name"], pencil["title"], pencil["size"]) == ("pencil", "Pencil", None)
    assert pencil["license"].startswith("Apache-2.0") and pencil["about"].startswith("Draws video in pencil")
    facts = {key: mine[key] for key in ("name", "title", "license", "author", "about")}
    assert facts == {
        "name": "My-L-ke",
        "title": "My l ke",
        "license": "CC BY 4.0",
        "author": "A. Painter",
        "about": "Paints it.",
    }
    for entry in (pencil, mine):
        content = (site / entry["thumbnail"]).read_bytes()
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None and len(content) <= MOST_THUMBNAIL and image.shape == (270, 960, 3)
        before, after = np.split(image.astype(float), 2, axis=1)
        assert before.std() > 10 and np.abs(before - after).mean() > 5


def test_the_models_of_the_site_output_what_the_originals_do(site: Path) -> None:
    frames = [np.ascontiguousarray(Scene(322, 178).draw(seconds)[:, ::-1]) for seconds in (0.5, 3.0)]
    originals = (find_model("pencil"), GOLDEN / "frame-fp32.onnx")
    for entry, original in zip(read(site, "models.json")["models"], originals, strict=True):
        exact, half = (site / entry["files"][precision]["path"] for precision in ("fp32", "fp16"))
        with closing(open_engine(original, "onnxruntime", "cpu")) as engine:
            expected = [engine.run(frame) for frame in frames]
        for path, precision in ((exact, "fp32"), (half, "fp16")):
            with closing(open_engine(path, "onnxruntime", "cpu")) as engine:
                styled = [engine.run(frame) for frame in frames]
                assert engine.precision == precision
            if precision == "fp32":
                assert max(np.abs(one.astype(int) - other).max() for one, other in zip(styled, expected, strict=True)) <= 1
            else:
                assert 40 <= psnr_db(expected, styled) < 90  # not equal: it is not fp32
            graph = onnx.load(str(path)).graph
            assert not {node.op_type for node in graph.node} & {"Round"} and not graph.value_info
            for port in (graph.input[0], graph.output[0]):
                sides = [side.dim_param or side.dim_value for side in port.type.tensor_type.shape.dim]
                assert sides == [1, "height", "width", 3]
        assert half.stat().st_size < 0.65 * exact.stat().st_size
    assert "Round" in {node.op_type for node in onnx.load(str(originals[1])).graph.node}


def test_only_a_site_of_ours_is_replaced(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "site"
    shutil.copytree(site, output)
    (output / ".DS_Store").touch()
    refused = run_command("web-app", "-o", output)
    assert refused.returncode == 1 and refused.stderr.startswith(f"error: {output}: exists already; --overwrite replaces it")
    files = {"index.html": b"new", "files.json": b'{"cyclecast": "0", "files": [{"path": "index.html"}]}'}
    (output / "CNAME").write_text("example.org")
    with pytest.raises(OutputError, match=r"holds files that web-app did not write \(CNAME\)"):
        write_folder(output, files, overwrite=True)
    (output / "CNAME").unlink()
    (output / "link").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="link is a symbolic link; remove it"):
        write_folder(output, files, overwrite=True)
    (output / "link").unlink()
    with pytest.raises(OutputError, match="cannot be written"):
        write_folder(output, {**files, "index.html/below": b""}, overwrite=True)
    assert (output / "models.json").read_bytes() == (site / "models.json").read_bytes()  # as it was
    write_folder(output, files, overwrite=True)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == files
    (foreign := tmp_path / "photos").mkdir()
    (foreign / "1.jpg").touch()
    (foreign / "link").symlink_to(tmp_path)  # the user's own: nobody should be asked to remove it
    with pytest.raises(OutputExistsError, match="not a site that web-app wrote"):
        check_folder(foreign, overwrite=True)
    with pytest.raises(OutputExistsError, match=f"^{foreign}: exists already"):
        write_folder(foreign, files, overwrite=False)
    (link := tmp_path / "link").symlink_to(output)
    monkeypatch.chdir(output)
    for path, words in (
        (link, "is a symbolic link"),
        (foreign / "1.jpg", "is a file"),
        (Path("."), "is the current folder"),
    ):
        with pytest.raises(OutputError, match=words):
            check_folder(path, overwrite=True)
    (empty := tmp_path / "empty").mkdir()
    write_folder(empty, files, overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link", "photos", "site"]


def test_wrong_models_and_precisions_are_one_line(tmp_path: Path) -> None:
    shutil.copyfile(GOLDEN / "frame-fp32.onnx", tmp_path / "monet.onnx")
    for arguments, words in (
        (("-m", "absent"), "no bundled model of that name"),
        (("-m", "monet", "-m", tmp_path / "monet.onnx"), "two models would be named monet"),
        (("--precision", "int8"), "precision must be one of both, fp32, got 'int8'"),
        (("--runtime", tmp_path / "absent.tgz"), "no such file"),
        # models are checked before the runtime is looked for, or downloaded
        (("-m", GOLDEN / "frame-fp16.onnx", "--runtime", tmp_path / "absent.tgz"), "browsers get the model that was exported"),
    ):
        done = run_command("web-app", "-o", tmp_path / "site", *arguments)
        assert done.returncode == 1 and done.stderr.startswith("error: ") and words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "site").exists()
