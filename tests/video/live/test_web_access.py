"""Who may open the live page, and where it can be served: on this machine only, unless there is a token."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cyclecast.errors import ConfigError, CyclecastError, OutputError
from tests.video.live.served import LIMIT, LOOPBACK, Served, WebPage, eventually, parse_address, serving

TOKEN = "a-token-of-mine"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def locked() -> Iterator[Served]:
    with serving(address=f"{LOOPBACK}?token={TOKEN}") as served:
        yield served


def assert_rejected(response: httpx.Response, status: int, words: str) -> None:
    assert response.status_code == status, response.text
    assert words in response.json()["error"] and "\n" not in response.json()["error"]
    assert response.headers["x-content-type-options"] == "nosniff"


def test_the_default_address_is_for_this_machine_only() -> None:
    assert parse_address("web").host == "127.0.0.1" and parse_address("web").port == 8080
    assert parse_address("web").token is None and parse_address("web://localhost:1").token is None
    one, other = (parse_address("web://0.0.0.0:8080").token for _ in range(2))
    assert one is not None and other is not None and one != other and len(one) >= 20
    assert parse_address("web://192.168.1.7:80?token=abcd1234").token == "abcd1234"
    assert parse_address("web://[::1]:8080").is_loopback and not parse_address("web://[::]:8080").is_loopback


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("web://0.0.0.0:8080?token=short", "a token needs 8 or more letters"),
        ("web://0.0.0.0:8080?secret=12345678", "unknown setting secret"),
        ("web://127.0.0.1:99999", "Port out of range"),
        ("web://127.0.0.1:8080/page", "not an address of the web page"),
        ("web://127.0.0.1:8080?cert=a.pem", "needs both files"),
        ("web://127.0.0.1:8080?cert=a.pem&key=b.pem", "no such file: a.pem"),
    ],
)
def test_an_invalid_address_is_an_error_in_one_line(address: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_address(address)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_a_port_in_use_is_an_error_in_one_line(served: Served) -> None:
    taken = served.page.url.replace("http", "web")
    began = time.monotonic()
    with pytest.raises(
        OutputError,
        match=r"^cannot serve the web page at 127.0.0.1:\d+: Address already in use; type another port: --sink web://",
    ):
        WebPage(taken, served.session)
    with pytest.raises(OutputError, match=r"^cannot serve the web page at 192.0.2.77:8080: "):
        WebPage("web://192.0.2.77:8080", served.session)
    assert time.monotonic() - began < 5


def test_a_host_name_that_is_not_this_machine_s_is_rejected(served: Served) -> None:
    for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.1", ""):
        assert_rejected(served.client.get("/api/state", headers={"Host": host}), 403, "does not name it")
    for host in ("localhost", "localhost:9000", "127.0.0.1", "[::1]:9000"):
        assert served.client.get("/api/state", headers={"Host": host}).status_code == 200


READABLE = [f"/api/{name}" for name in ("style", "strength", "mirror", "record", "split", "snapshot")]


@pytest.mark.parametrize("path", [*READABLE, "/api/model", "/offer", "/camera"])
def test_only_the_page_itself_may_change_anything(served: Served, path: str) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", served.origin.replace("http", "https")):
        assert_rejected(served.client.post(path, json={}, headers={"Origin": origin}), 403, "only the page itself")
    assert_rejected(served.client.post(path, json={}), 403, "the Origin is missing")
    assert served.client.get(path).status_code == (200 if path in READABLE else 405)


def test_another_site_may_not_read_the_video(served: Served) -> None:
    for path in ("/stream.mjpg", "/snapshot.png", "/api/state", "/metrics"):
        assert_rejected(served.client.get(path, headers={"Sec-Fetch-Site": "cross-site"}), 403, "from another site")
    assert served.client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
    assert served.client.get("/snapshot.png").headers["cross-origin-resource-policy"] == "same-origin"


def test_an_invalid_request_is_one_line_of_json(served: Served) -> None:
    assert_rejected(served.client.get("/nothing"), 404, "Not Found")
    assert_rejected(served.post("/api/model", naem="same"), 422, "body.name: Field required")
    assert_rejected(served.post("/api/split", viewer="x", split=1.5), 422, "body.split")
    assert_rejected(served.post("/api/strength", strength=1.5), 422, "body.strength")
    assert_rejected(served.post("/api/strength", strength=None), 422, "body.strength")
    assert_rejected(served.client.get("/snapshot.png?split=7"), 422, "less than or equal to 1")
    assert_rejected(served.post("/offer", sdp="v=0 and no more", type="offer"), 400, "invalid WebRTC offer")
    assert_rejected(served.post("/offer", sdp="", type="answer"), 422, "body.type")
    assert_rejected(served.post("/camera", sdp="", type="offer"), 409, "cyclecast live browser --sink web")
    headers = {"Origin": served.origin, "Content-Type": "application/json"}
    assert_rejected(served.client.post("/api/mirror", content=b"{", headers=headers), 422, "JSON")
    assert_rejected(served.client.post("/api/strength", content=b'{"strength": NaN}', headers=headers), 422, "body.strength")
    assert_rejected(served.client.post("/api/mirror", content=b" " * 70_000, headers=headers), 413, "longer than 65536 bytes")
    assert_rejected(served.client.post("/api/mirror", content=iter([b"{}"]), headers=headers), 411, "Content-Length")
    assert served.viewers() == 0


def test_nothing_is_revealed_without_the_token(locked: Served) -> None:
    for path in ("/", "/api/state", "/metrics", "/stream.mjpg", "/snapshot.png", "/nothing"):
        assert_rejected(locked.client.get(path), 401, "needs its token")
        assert_rejected(locked.client.get(path, params={"token": TOKEN[:-1] + "x"}), 401, "needs its token")
        assert_rejected(locked.client.get(path, headers={"Authorization": "Bearer wrong"}), 401, "needs its token")
    assert_rejected(locked.post("/api/mirror", on=True), 401, "needs its token")
    assert_rejected(locked.post("/api/strength", strength=0.5), 401, "needs its token")
    assert locked.client.get("/healthz").json() == {"status": "ok"}
    assert not any(TOKEN in line for line in locked.messages) and any("with your token" in line for line in locked.messages)


def test_the_token_is_sent_once_and_then_kept_in_a_cookie(locked: Served) -> None:
    with httpx.Client(base_url=locked.origin, trust_env=False, timeout=LIMIT) as browser:
        cookie = browser.get("/", params={"token": TOKEN}).headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Secure" not in cookie
        assert int(re.findall(r"Max-Age=(\d+)", cookie)[0]) > 30 * 24 * 3600, "it outlives the browser"
        assert browser.get("/").status_code == 200 and browser.get("/api/state").json()["source"]
        assert browser.post("/api/mirror", json={"on": False}, headers={"Origin": locked.origin}).status_code == 200
        assert_rejected(
            browser.post("/api/mirror", json={"on": True}, headers={"Origin": "http://evil.example"}), 403, "only the page"
        )
    prometheus = locked.client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert prometheus.status_code == 200 and "cyclecast_fps" in prometheus.text


def test_a_person_without_the_token_gets_a_page_that_asks_for_it(locked: Served) -> None:
    person = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for query in ({}, {"token": "wrong"}):
        page = locked.client.get("/", params=query, headers=person)
        assert page.status_code == 401 and page.headers["content-type"].startswith("text/html") and 'name="token"' in page.text
        policy = page.headers["content-security-policy"]
        assert "form-action 'self'" in policy and "default-src 'none'" in policy and "script-src 'none'" in policy
    assert_rejected(locked.client.get("/api/state", headers=person), 401, "needs its token")
    assert_rejected(locked.client.get("/"), 401, "needs its token")


def test_an_address_in_the_network_requires_a_generated_token() -> None:
    from cyclecast.video.live.sinks.web.guard import Guard

    address = parse_address("web://0.0.0.0:8080")

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("the guard let the request pass")

    transport = httpx.ASGITransport(Guard(app, address, 8080))

    async def visit() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://192.168.1.7:8080") as client:
            return await client.get("/")

    assert_rejected(asyncio.run(visit()), 401, "needs its token")


def certificate(folder: Path) -> tuple[Path, Path]:
    """Creates a self-signed certificate for 127.0.0.1; its file and that of its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cyclecast")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    cert = built.add_extension(names, critical=False).sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*formats))
    return folder / "cert.pem", folder / "key.pem"


def test_https_for_a_phone_s_camera(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with serving(address=f"{LOOPBACK}?token={TOKEN}&cert={cert}&key={key}") as served:
        assert served.page.url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(base_url=served.origin, verify=trust, trust_env=False, timeout=LIMIT) as client:
            assert "Secure" in client.get("/", params={"token": TOKEN}).headers["set-cookie"]
            eventually(lambda: client.get("/api/state").json()["shown"] > 2, "frames")
            assert client.post("/api/mirror", json={"on": False}, headers={"Origin": served.origin}).status_code == 200


def test_invalid_https_files_are_an_error_in_one_line(served: Served, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(CyclecastError, match=r"are not a certificate and its key in PEM: [^\n]+$"):
        WebPage(f"{LOOPBACK}?cert={tmp_path / 'cert.pem'}&key={tmp_path / 'key.pem'}", served.session)
