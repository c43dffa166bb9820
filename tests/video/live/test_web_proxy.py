"""The live page behind a proxy: on another host, over TLS, below a path."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cyclecast.errors import ConfigError
from cyclecast.video.live.sinks.registry import sink_type
from tests.documents import ROOT
from tests.video.live.served import LIMIT, LOOPBACK, Served, parse_address, serving
from tests.video.live.test_web_access import TOKEN, assert_rejected, certificate

ORIGIN = "https://live.example.com"


@pytest.fixture(scope="module")
def proxied() -> Iterator[Served]:
    with serving(address=f"{LOOPBACK}?token={TOKEN}&origin={ORIGIN}/cam/") as served:
        yield served


@contextmanager
def visiting(served: Served, host: str | None) -> Iterator[httpx.Client]:
    """Yields a client that sends what a proxy passes on: the Host of the browser, or that of the page itself."""
    origin = f"http://127.0.0.1:{served.page._port}"
    headers = {"Authorization": f"Bearer {TOKEN}"} | ({} if host is None else {"Host": host})
    with httpx.Client(base_url=origin, headers=headers, trust_env=False, timeout=LIMIT) as client:
        yield client


@pytest.mark.parametrize("host", ["live.example.com", None], ids=["passed on", "replaced"])
def test_the_page_behind_a_proxy_may_change_everything(proxied: Served, host: str | None) -> None:
    with visiting(proxied, host) as client:
        assert client.get("/api/state").status_code == 200
        for origin, status in ((ORIGIN, 200), ("https://evil.example", 403), ("http://live.example.com:1", 403), ("null", 403)):
            assert client.post("/api/mirror", json={"on": False}, headers={"Origin": origin}).status_code == status
        assert_rejected(client.post("/api/mirror", json={"on": False}), 403, "the Origin is missing")


def test_other_hosts_are_still_rejected(proxied: Served) -> None:
    for host in ("evil.example", "live.example.com.evil.example", "example.com"):
        with visiting(proxied, host) as client:
            assert_rejected(client.get("/api/state"), 403, "does not name it")


def test_the_cookie_is_for_the_page_s_path_alone(proxied: Served) -> None:
    with visiting(proxied, "live.example.com") as client:
        cookie = client.get("/", params={"token": TOKEN}).headers["set-cookie"]
        assert "Path=/cam/;" in cookie and "Secure" in cookie
    with visiting(proxied, None) as client:
        cookie = client.get("/", params={"token": TOKEN}).headers["set-cookie"]
        assert "Path=/;" in cookie and "Secure" not in cookie


def test_the_proxy_s_address_is_printed_and_needs_a_token() -> None:
    address = parse_address(f"web://127.0.0.1:8080?origin={ORIGIN}/cam")
    assert address.url(8080) == f"{ORIGIN}/cam/" and address.token is not None and len(address.token) >= 20
    assert parse_address(f"web?origin={ORIGIN}").url(8080) == f"{ORIGIN}/"
    assert sink_type(f"web?origin={ORIGIN}") == sink_type("web?token=12345678") == "web" and sink_type("show.mp4") == "file"


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://Example.com", "https://example.com", "/"),
        ("https://example.com:443/a/b", "https://example.com", "/a/b/"),
        ("http://example.com:80/", "http://example.com", "/"),
        ("https://example.com:8443/cam/", "https://example.com:8443", "/cam/"),
    ],
)
def test_an_origin_is_read_as_browsers_write_it(url: str, origin: str, path: str) -> None:
    address = parse_address(f"web?origin={url}")
    assert (address.origin, address.path) == (origin, path)


@pytest.mark.parametrize(
    "url", ["example.com", "ftp://example.com", "https://", "https://a.b/c;d", "https://u@a.b", "https://a.b:x"]
)
def test_an_invalid_origin_is_an_error_in_one_line(url: str) -> None:
    with pytest.raises(ConfigError, match=r"not the address of a page; type \?origin=https://HOST") as raised:
        parse_address(f"web?origin={url}")
    assert "\n" not in str(raised.value)


def test_the_page_names_no_absolute_path(proxied: Served) -> None:
    with visiting(proxied, None) as client:
        page = client.get("/").text
    assert re.findall(r"""["'`](/(?:api|offer|camera|stream|snapshot)[\w./]*)""", page) == []


@contextmanager
def nginx(served: Served, folder: Path, port: int) -> Iterator[ssl.SSLContext]:
    """Runs deploy/nginx.conf with names and ports of the test; yields what trusts its certificate."""
    cert, key = certificate(folder)
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    replaced = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "server_name example.com": "server_name 127.0.0.1",
        "/etc/ssl/example.com.crt": str(cert),
        "/etc/ssl/example.com.key": str(key),
        "http://127.0.0.1:8080/": f"http://127.0.0.1:{served.page._port}/",
    }
    for name, value in replaced.items():
        assert name in text
        text = text.replace(name, value)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    main = f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors; events {{}}"
    (folder / "nginx.conf").write_text(f"{main}\nhttp {{ access_log off; {folders}\n{text}\n}}\n")
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.PIPE)
    try:
        yield ssl.create_default_context(cafile=str(cert))
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT)


def test_the_example_for_nginx_works(tmp_path: Path) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("needs nginx")
    from tests.video.live.test_live_sources import free_port

    port = free_port()
    origin = f"https://127.0.0.1:{port}"
    with serving(address=f"{LOOPBACK}?token={TOKEN}&origin={origin}/cam/") as served, nginx(served, tmp_path, port) as trust:
        with httpx.Client(base_url=f"{origin}/cam/", verify=trust, trust_env=False, timeout=LIMIT) as client:
            limit = time.monotonic() + LIMIT
            while True:
                try:
                    response = client.get("", params={"token": TOKEN})
                    break
                except httpx.ConnectError:
                    assert time.monotonic() < limit
                    time.sleep(0.05)
            assert response.status_code == 200 and "Path=/cam/;" in response.headers["set-cookie"]
            assert client.get("api/state").json()["shown"] > 0, "the cookie is enough"
            assert client.post("api/mirror", json={"on": True}, headers={"Origin": origin}).status_code == 200
            assert client.post("api/mirror", json={"on": True}, headers={"Origin": "https://evil.example"}).status_code == 403
            with client.stream("GET", "stream.mjpg") as stream:
                received = 0
                for chunk in stream.iter_raw():  # nothing holds the frames back
                    received += chunk.count(b"--frame")
                    if received > 5:
                        break
            assert client.get("snapshot.png").headers["content-type"] == "image/png"
        assert served.messages[0].startswith(f"web page: {origin}/cam/?token=...")
