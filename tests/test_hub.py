"""Styles are shared, fetched by address, and refused if they are not what an honest author would publish."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import pickle
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cyclecast
from cyclecast.card import MOST_LINE, MOST_TEXT, MOST_THUMBNAIL, StyleCard
from cyclecast.errors import ConfigError, ModelError, OutputError
from cyclecast.runtime.onnx_properties import add_card, read_card, replace_properties
from cyclecast.runtime.remote import fetch_model, inspect_model
from cyclecast.runtime.remote.address import parse_address
from tests.commands import json_of, run_command

Answer = tuple[int, dict[str, str], bytes]


class Server:
    """Serves `files` (path -> content, or status, headers and content), lists requests, accepts uploads as the hub does."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | Answer] = {}
        self.requests: list[str] = []
        self.uploaded: dict[str, bytes] = {}
        self.gate = threading.Event()
        self.gate.set()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.requests.append(self.path)
                owner.gate.wait(60)
                found = owner.files.get(self.path, (404, {}, b""))
                status, headers, content = (200, {}, found) if isinstance(found, bytes) else found
                if self.path.startswith("/api/models/"):
                    content = json.dumps(
                        [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in owner.uploaded]
                    ).encode()
                    status, headers = 200, {"Content-Type": "application/json"}
                self._answer(status, headers, content)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(200, {"Content-Type": "application/json"}, json.dumps(owner.post(self.path, body)).encode())

            def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response(status)
                for key, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        """Answers as the hub's interface for uploads does."""
        if path == "/api/repos/create":
            return {"url": f"{self.url}/me/style", "id": "me/style", "name": "me/style"}
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        if "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.uploaded[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return {"commitUrl": f"{self.url}/me/style/commit/1", "commitOid": "1" * 40, "hookOutput": ""}
        return {"errors": [], "warnings": []}  # /api/validate-yaml


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server on this machine that is also the hub; the cache and the pins are in `tmp_path`."""
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr("cyclecast.runtime.remote.fetch.user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr("cyclecast.runtime.remote.fetch.user_data_path", lambda name: tmp_path / "data" / name)
    yield server
    server.gate.set()
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@pytest.fixture(scope="module")
def shared(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `cyclecast share` wrote."""
    folder = tmp_path_factory.mktemp("shared")
    options = ["--author", "Zoë", "--license", "CC-BY-4.0", "--learned-from", "a | b", "--height", 720, "--tag", 'a"b', "--title"]
    (folder / "card.md").write_text("# A title\n\nPaints lakes.\n\n![Before](x.jpg)\n", "utf-8")
    report = json_of("share", tiny_model, "--to", folder / "tiny", *options, "Tiny: lake", "--card", folder / "card.md")
    assert report["files"].keys() == {"tiny.onnx", "tiny.jpg", "README.md", "SHA256SUMS", "index.json"} and not report["dry_run"]
    return folder / "tiny"


def decode(jpeg: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.glob("*/cyclecast/*/**/*") if path.is_file() and path.name != ".lock")


def test_a_shared_folder_explains_itself(shared: Path, tiny_model: Path) -> None:
    yaml = pytest.importorskip("yaml")
    content = (shared / "tiny.onnx").read_bytes()
    readme = (shared / "README.md").read_text("utf-8")
    metadata = yaml.safe_load(readme.split("---\n")[1])
    assert metadata["license"] == "cc-by-4.0" and metadata["tags"][-1] == 'a"b' and metadata["thumbnail"] == "tiny.jpg"
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("cyclecast", "image-to-image")
    assert "# Tiny: lake" in readme and "Paints lakes." in readme and "A title" not in readme and "x.jpg" not in readme
    assert (shared / "SHA256SUMS").read_text() == f"{hashlib.sha256(content).hexdigest()}  tiny.onnx\n"
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert (properties["model_author"], properties["model_license"]) == ("Zoë", "CC-BY-4.0")
    assert properties["Image.BitmapPixelFormat"] == "Bgr8" and "cyclecast" in properties
    assert {port.type.denotation for port in (*model.graph.input, *model.graph.output)} == {"IMAGE"}
    assert model.graph.initializer == onnx.load(str(tiny_model)).graph.initializer
    card = read_card("x", content)
    assert (card.title, card.height, card.learned_from) == ("Tiny: lake", 720, "a | b")
    assert 2000 < len(card.thumbnail) <= MOST_THUMBNAIL and card.thumbnail == (shared / "tiny.jpg").read_bytes()
    assert decode(card.thumbnail).shape == (270, 960, 3)
    assert add_card("x", content, card) == content  # equal cards give equal bytes
    shown = run_command("models", "show", shared / "tiny.onnx").stdout
    assert "author: Zoë\nlicense: CC-BY-4.0\nlearned from: a | b\nheight: 720\n" in shown and "Paints lakes." in shown
    assert "card: none" in run_command("models", tiny_model).stdout  # a file from before cards
    bare = replace_properties("x", content, {key: "" for key in properties if key != "cyclecast"})
    assert read_card("x", bare) == StyleCard() and {e.key for e in onnx.load_from_string(bare).metadata_props} == {"cyclecast"}


def test_a_shared_style_is_fetched_once_and_used_offline(shared: Path, server: Server, clip: Path, tmp_path: Path) -> None:
    content, path = (shared / "tiny.onnx").read_bytes(), "/me/tiny/resolve/v1%2F2/tiny.onnx"
    server.files = {path: (302, {"Location": "/elsewhere"}, b""), "/elsewhere": content}
    server.files |= {f"/{name}": (shared / name).read_bytes() for name in ("index.json", "tiny.onnx")}
    done = run_command("convert", clip, tmp_path / "hub.mp4", "--model", "hf:me/tiny@v1/2")
    assert done.returncode == 0 and "hf:me/tiny@v1/2: fetched" in done.stderr and "tiny on openvino" in done.stderr
    assert server.requests == [path, "/elsewhere"]
    (entry,) = json_of("models", "--index", f"{server.url}/index.json")["styles"]
    assert (entry["author"], entry["tags"]) == ("Zoë", ['a"b']) and entry["address"].startswith(f"{server.url}/tiny.onnx#sha256=")
    assert "Tiny: lake" in run_command("models", "--index", shared / "index.json").stdout
    live = ["live", "pattern://128x96@30", "--sink", "null", "--seconds", 0.2, "-m"]
    assert json_of(*live, entry["address"])["shown"] > 0
    server.files, server.requests = {}, []
    assert json_of(*live, entry["address"])["shown"] > 0
    with cyclecast.load("hf:me/tiny@v1/2") as model:
        assert model.name == "tiny"
    assert "author: Zoë" in run_command("models", "hf:me/tiny@v1/2").stdout
    file = fetch_model((shared / "tiny.onnx").as_uri())
    (file.parent / ".lock").unlink()
    (file.parent / ".lock").mkdir()  # as in a read-only cache, no lock can be created
    assert fetch_model((shared / "tiny.onnx").as_uri()).read_bytes() == content
    with pytest.raises(OutputError, match="cannot be written"):
        fetch_model((shared / "tiny.onnx").as_uri(), update=True)
    assert server.requests == [] and len(cached(tmp_path)) == 6  # a model and a pin of each address


def test_another_file_at_the_same_address_is_refused_until_it_is_accepted(shared: Path, server: Server, tmp_path: Path) -> None:
    content, address = (shared / "tiny.onnx").read_bytes(), f"{server.url}/a.onnx"
    changed = add_card("x", content, StyleCard(author="another"))
    server.files["/a.onnx"] = content
    file = fetch_model(address)
    server.files["/a.onnx"] = changed
    file.write_bytes(changed)  # tampered with in the cache, too
    done = run_command("models", address)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith(f"to accept it: cyclecast models {address} --update")
    with pytest.raises(cyclecast.FetchError, match="not the file that its #sha256= names: expected 000"):
        fetch_model(f"{address}#sha256={'0' * 64}")
    assert "author: another" in run_command("models", address, "--update").stdout
    server.files["/a.onnx"] = content  # a hash that is typed is accepted, too
    assert fetch_model(f"{address}#sha256={hashlib.sha256(content).hexdigest()}").read_bytes() == content


def graph(nodes: list[onnx.NodeProto], initializers: dict[str, Any] | None = None, **options: Any) -> onnx.ModelProto:
    """Returns a model from a frame to a frame, with these nodes."""
    ports = [
        helper.make_tensor_value_info(name, TensorProto.UINT8, [1, options.get("height", "h"), "w", 3]) for name in ("in", "out")
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (initializers or {}).items()]
    made = helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors)
    domains = [helper.make_opsetid(domain, 18) for domain in ("", *options.get("domains", []))]
    return helper.make_model(made, opset_imports=domains, ir_version=8, functions=options.get("functions", []))


def hostile_models() -> dict[str, tuple[onnx.ModelProto, str]]:
    """Returns models that no honest author publishes, and what the message about each says."""
    node = helper.make_node
    same = [node("Identity", ["in"], ["out"])]
    models = {
        "domain": (graph([node("Gelu", ["in"], ["out"], domain="com.evil")], domains=["com.evil"]), "of 'com.evil'"),
        "operator": (graph([node("If", ["c"], ["out"], then_branch=graph(same).graph)]), "its operator 'If' is not among"),
        "subgraph": (graph([node("Identity", ["in"], ["out"], body=graph(same).graph)]), "a graph or a list of tensors"),
        "function": (
            graph(same, functions=[helper.make_function("d", "f", [], [], [], [helper.make_opsetid("", 18)])]),
            "functions or training",
        ),
        "constant": (
            graph([node("ConstantOfShape", ["n"], ["x"]), *same], {"n": np.array([65536] * 3, np.int64)}),
            "281,474,976,710,656",
        ),
        "resize": (
            graph([node("Resize", ["in", "", "s"], ["out"])], {"s": np.array([1, 1e6, 1, 1], np.float32)}),
            "Resize enlarges by more than 64",
        ),
        "tile": (
            graph([node("Tile", ["in", "n"], ["out"])], {"n": np.array([1, 99999, 1, 1], np.int64)}),
            "Tile adds more than 4,096",
        ),
        "pads": (graph([node("AveragePool", ["in"], ["out"], kernel_shape=[1, 1], pads=[9999] * 4)]), "its pads of 9,999"),
        "frame": (graph(same, height=1 << 40), "it states a shape of 1x1099511627776x3"),
    }
    twice = graph([node("ConstantOfShape", ["n"], ["x"]), *same], {"n": np.array([65536] * 3, np.int64)})
    twice.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "n"))
    bomb = graph(same, {"w": np.zeros(4, np.float32)})
    bomb.graph.initializer[0].dims[:] = [1 << 20, 1 << 20]
    outside = graph(same, {"w": np.zeros(4, np.float32)})
    outside.graph.initializer[0].ClearField("raw_data")
    outside.graph.initializer[0].data_location = TensorProto.EXTERNAL
    outside.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    deep = graph(same)
    deep.graph.value_info.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [2] * 9))
    return models | {
        "deep": (deep, "it states a shape of 2x2x2"),
        "names": (twice, "two constants of one name"),
        "dimensions": (bomb, "a tensor states 1,099,511,627,776 values and holds 4"),
        "external data": (outside, "its weights are in another file (external data)"),
    }


def test_hostile_files_are_refused_in_one_line_before_anything_is_kept(
    shared: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (shared / "tiny.onnx").read_bytes()
    monkeypatch.setenv("CYCLECAST_MODEL_MIB", "1")
    files: dict[str, tuple[bytes | Answer, str]] = {
        name: (model.SerializeToString(), f"refused: {expected}" if "operator" in name else expected)
        for name, (model, expected) in hostile_models().items()
    }
    zipped = io.BytesIO()
    np.savez(zipped, x=np.zeros(1))
    files |= {
        "pickle": (pickle.dumps({"a": 1}), "a Python pickle, which is a program; only ONNX models are fetched"),
        "zip": (zipped.getvalue(), "a zip archive"),
        "page": (b"<!doctype html><p>Sign in", "a web page (HTML), not the file itself"),
        "cut": ((200, {"Content-Length": str(len(content))}, content[:5000]), f"ended after 5000 of {len(content)} bytes"),
        "half": (content[:-5], "a damaged one (cut off)"),
        "large": ((200, {"Content-Length": str(2 << 20)}, b""), "larger than 1 MiB; if you trust it: CYCLECAST_MODEL_MIB=2"),
        "odd length": ((200, {"Content-Length": "\xb2"}, b"x"), "only ONNX models are fetched"),
        "long length": ((200, {"Content-Length": "9" * 5000}, b"x"), "only ONNX models are fetched"),
        "endless": ((200, {"Content-Length": "none"}, b"\x08" * (2 << 20)), "larger than 1 MiB"),
        "to http": (
            (302, {"Location": "http://192.0.2.1/x.onnx"}, b""),
            "redirects to http://192.0.2.1/x.onnx; expected https://",
        ),
        "to a file": ((302, {"Location": "file:///etc/passwd"}, b""), "the server answers 302"),
        "loop": ((302, {"Location": "/loop.onnx"}, b""), "the server answers 302"),
        "none": ((404, {}, b""), "the server answers 404"),
    }
    for name, (answer, expected) in files.items():
        path = f"/{name.replace(' ', '-')}.onnx"
        server.files[path] = answer
        done = run_command("bench", "--size", "64x48", "--model", server.url + path)
        lines = [line for line in done.stderr.splitlines() if "fetching" not in line]
        assert done.returncode == 1 and len(lines) == 1 and expected in lines[0], (name, done.stderr)
        assert lines[0].startswith(f"error: {server.url}{path}: "), lines
    for address, expected in (
        ("http://example.org/x.onnx", "http:// is only for this machine; expected https://"),
        ("ftp://example.org/x.onnx", "expected hf:user/name"),
        ("hf:me", "expected hf:user/name"),
        ("hf:me/../x", "expected hf:user/name"),
        ("https://me:secret@example.org/x.onnx", "leave out what stands before the @"),
        (f"{server.url}/x.onnx#sha256=12", "expected #sha256= and 64 hexadecimal digits"),
        ("file:///nowhere/x.onnx", "x.onnx: cannot be fetched (no such file or folder)"),
        ("http://127.0.0.1:9/x.onnx", "cannot be fetched (Connection refused); fetched once, a model also works offline"),
    ):
        done = run_command("bench", "--size", "64x48", "--model", address)
        assert done.returncode == 1 and expected in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert "secret" not in done.stderr
    for endpoint in ("hub.example.org", "http://hub.example.org", "file:///tmp"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(ConfigError, match="^HF_ENDPOINT: expected the https:// address of a hub"):
            fetch_model("hf:me/x")
    assert cached(tmp_path) == []
    names = {parse_address(f"https://a.b/{path}").name for path in ("..%2F..%2Fx.onnx", "%2e%2e", "\x1b]0;x.onnx?a=b", "")}
    assert all("/" not in name and name.endswith(".onnx") and name.isascii() and name.isprintable() for name in names), names


def test_bundled_and_older_models_pass_the_inspection() -> None:
    root = Path(__file__).parent
    for path in [*root.glob("golden/models/*.onnx"), *(root.parent / "cyclecast" / "models").rglob("*.onnx")]:
        inspect_model(path.name, path.read_bytes())


def test_damaged_bytes_never_escape_as_another_error(shared: Path) -> None:
    random = np.random.default_rng(0)
    content = (shared / "tiny.onnx").read_bytes()
    for _ in range(150):
        damaged = bytearray(content[: int(random.integers(1, len(content)))] if random.random() < 0.3 else content)
        for position in random.integers(0, min(len(damaged), 3000), 8):
            damaged[position] = random.integers(0, 256)
        try:
            inspect_model("x", bytes(damaged))
            read_card("x", bytes(damaged))
        except ModelError as error:
            assert "\n" not in str(error)


def test_two_processes_at_once_transfer_a_model_once(shared: Path, server: Server, tmp_path: Path) -> None:
    server.files["/a.onnx"] = (shared / "tiny.onnx").read_bytes()
    server.gate.clear()
    code = (
        "import sys; from pathlib import Path; from cyclecast.runtime.remote import fetch, fetch_model\n"
        "fetch.user_cache_path = fetch.user_data_path = lambda name: Path(sys.argv[2])\n"
        "print('ready', flush=True)\nprint(fetch_model(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, f"{server.url}/a.onnx", str(tmp_path / "both")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    server.gate.set()
    paths = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0] and len(paths) == 1
    assert server.requests == ["/a.onnx"] and Path(paths.pop().strip()).read_bytes() == server.files["/a.onnx"]


def test_hostile_metadata_are_shown_as_plain_short_text(shared: Path, tmp_path: Path) -> None:
    content = (shared / "tiny.onnx").read_bytes()
    hostile = {
        "cyclecast.title": "\x1b]8;;https://evil\x07click\x1b]8;;\x07 [red]bold[/red]\r\nauthor: me",
        "model_author": "a" * 10_000,
        "model_license": "../../etc/passwd\u202egpj",
        "cyclecast.height": "9" * 400,
        "cyclecast.thumbnail": base64.b64encode(b"\x89PNG no JPEG").decode(),
        "cyclecast.card": "\x1b[2J\x9b31m line\tone\n" + "x" * 100_000,
    }
    path = tmp_path / "hostile.onnx"
    path.write_bytes(replace_properties("x", content, hostile))
    shown = run_command("models", path).stdout
    assert not set(shown) & {"\x1b", "\x9b", "\x07", "\r", "\u202e", "\t"} and len(shown) < MOST_TEXT + 3 * MOST_LINE + 1000
    assert "\\x1b]8;;https://evil\\x07click" in shown and "[red]bold[/red]" in shown and "\nauthor: me" not in shown
    assert "height: not stated" in shown and "thumbnail: none" in shown and "more characters left out" in shown
    with cyclecast.load(path) as model:  # nothing of it matters to an engine
        assert model.spec.name == "tiny"
    index = tmp_path / "index.json"
    entry = {
        "name": "\x1b[2Jn",
        "author": "a",
        "license": "mit",
        "sha256": "0" * 64,
        "urls": ["https://a.b/x.onnx"],
        "height": "x",
    }
    index.write_text(json.dumps([entry]))
    assert run_command("models", "--index", index).stdout.startswith(
        "\\x1b[2Jn: by a; mit\n  --model 'https://a.b/x.onnx#sha256=000"
    )
    index.write_text(json.dumps([entry | {"urls": ["https://a.b/';reboot;'"]}]))
    typed = run_command("models", "--index", index).stdout.splitlines()[1]
    assert shlex.split(typed)[1].startswith("https://a.b/';reboot;'#sha256=000")  # one word for a shell
    for change in (
        {"urls": ["https://a.b/'; rm -rf '"]},
        {"urls": ["https://a.b/ \x1b"]},
        {"sha256": "1"},
        {"author": ""},
        {"urls": 1},
    ):
        index.write_text(json.dumps([entry | change]))
        done = run_command("models", "--index", index)
        assert done.returncode == 1 and "entry 1: " in done.stderr and done.stderr.count("\n") == 1, change


def test_what_is_missing_is_named_before_anything_is_written(shared: Path, tiny_model: Path, tmp_path: Path) -> None:
    out, by = tmp_path / "out", ["--author", "me", "--license", "MIT"]
    for arguments, expected in (
        ((tiny_model, "--to", out), "add --license, such as --license CC-BY-4.0"),
        ((tiny_model, "--to", out, "--license", "MIT"), "add --author"),
        ((tiny_model, "--to", "https://hub/me/x", *by), "--to expects a folder or hf:user/name"),
        ((tiny_model, "--to", "", *by), "--to expects a folder or hf:user/name, got ''"),
        ((tiny_model, "--to", shared, *by), "exists already; --overwrite replaces it"),
        ((tiny_model, "--to", tiny_model, *by), "is a file; expected --to FOLDER"),
        ((tiny_model, "--to", out, *by, "--card", tmp_path / "no.md"), "no.md: no such file"),
    ):
        done = run_command("share", *arguments)
        assert done.returncode == 1 and expected in done.stderr.splitlines()[-1], done.stderr
    assert json_of("share", shared / "tiny.onnx", "--to", out, "--dry-run")["dry_run"] is True
    assert not out.exists()
    refused = run_command("share", shared / "tiny.onnx", "--to", shared, "--dry-run")  # what a real run would say
    assert refused.returncode == 1 and "exists already; --overwrite replaces it" in refused.stderr
    (card := tmp_path / "card.md").write_bytes(b"x" * (1 << 20) + b"x")
    for file, expected in ((card, "larger than 1 MiB; expected a card in Markdown"), (Path("/dev/zero"), "is a device")):
        done = run_command("share", tiny_model, "--to", out, *by, "--card", file)
        assert done.returncode == 1 and expected in done.stderr and done.stderr.count("\n") == 1


def test_a_dry_run_of_an_upload_needs_no_extra(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "cyclecast.hub.upload", raising=False)
    upload: list[object] = ["share", shared / "tiny.onnx", "--to", "hf:me/style"]
    assert run_command(*upload, "--dry-run").returncode == 0
    done = run_command(*upload, "--yes")
    assert done.returncode == 1 and done.stderr == "error: huggingface_hub is not installed: pip install 'cyclecast[hub]'\n"


def test_a_shared_style_may_have_any_printable_name(shared: Path, server: Server, tmp_path: Path) -> None:
    model = tmp_path / "my läke #1, 100%.onnx"
    model.write_bytes((shared / "tiny.onnx").read_bytes())
    assert run_command("share", model, "--to", out := tmp_path / "out dir").returncode == 0
    (entry,) = json_of("models", "--index", out / "index.json")["styles"]
    assert entry["urls"][0].endswith("/out%20dir/my%20l%C3%A4ke%20%231%2C%20100%25.onnx")
    assert fetch_model(entry["address"]).name == "my-l-ke--1--100.onnx"
    readme = (out / "README.md").read_text("utf-8")
    assert f"--model '{model.name}'\n" in readme and "](my%20l%C3%A4ke%20%231%2C%20100%25.jpg)" in readme
    (unreadable := tmp_path / "two\nlines.onnx").write_bytes(model.read_bytes())
    refused = run_command("share", unreadable, "--to", out)
    assert refused.returncode == 1 and "cannot be published; rename the file" in refused.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_upload_asks_first_and_replaces_nothing(
    shared: Path, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    upload: list[object] = ["share", shared / "tiny.onnx", "--to", "hf:me/style"]
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    done = run_command(*upload)
    assert done.returncode == 1 and "no terminal to ask before the upload; add --yes" in done.stderr
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdin", Terminal("n\n"))
        refused = run_command(*upload)
    assert refused.returncode == 1 and "upload these files to hf:me/style" in refused.stderr
    assert refused.stderr.endswith("nothing was uploaded\n")
    run_command(*upload, "--dry-run", "--yes")
    assert server.uploaded == {} and server.requests == []
    assert json_of(*upload, "--yes")["address"] == "hf:me/style"
    assert server.uploaded.keys() == {"style.onnx", "style.jpg", "README.md", "SHA256SUMS", "index.json"}
    assert b"--model hf:me/style\n" in server.uploaded["README.md"]
    again = run_command(*upload, "--yes")
    assert again.returncode == 1 and "style.onnx exist there already; --overwrite" in again.stderr.replace("style.jpg, ", "")
    assert run_command(*upload, "--yes", "--overwrite").returncode == 0
    server.files["/me/style/resolve/main/style.onnx"] = server.uploaded["style.onnx"]
    assert fetch_model("hf:me/style").read_bytes() == server.uploaded["style.onnx"]


def test_the_list_of_the_bundled_styles_is_current() -> None:
    root = Path(__file__).parent.parent
    for entry in json_of("models", "--index", root / "docs" / "styles.json")["styles"]:
        content = Path(url2pathname(urlsplit(entry["urls"][0]).path)).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], "run: python docs/styles.py"
