"""Requests that no program or page of the owner's makes, and the form of every answer."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server.running import Running, serving

FOREIGN: dict[str, dict[str, str]] = {
    "a name that points here (DNS rebinding)": {"Host": "evil.test"},
    "such a name with our port": {"Host": "evil.test:4318"},
    "a name that begins like ours": {"Host": "localhost.evil.test"},
    "a name with an address in it": {"Host": "127.0.0.1.evil.test"},
    "no name": {"Host": ""},
    "a user in it": {"Host": "localhost@evil.test"},
    "a foreign page": {"Origin": "https://evil.test"},
    "a page of another port": {"Origin": "http://127.0.0.1:1"},
    "a page without an origin": {"Origin": "null"},
    "what the browser calls cross-site": {"Sec-Fetch-Site": "cross-site"},
    "what the browser calls same-site": {"Sec-Fetch-Site": "same-site"},
    "a frame of another page": {
        "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe",
    },
}  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_requests_are_refused(case: str, method: str, server: Running) -> None:
    """With a key, too: a browser that holds one might be made to send it."""
    body = b'{"event_type":"foreign"}' if method == "POST" else None
    answer = server.request(method, "/v1/events" if body else "/v1/session", body, headers=FOREIGN[case])
    if case == "a page without an origin" and method == "GET":  # a file of one's own; it cannot read the answer
        assert answer.status == 200
    else:
        assert (answer.status, answer.code) == (403, answer.code)
        assert answer.code in ("foreign_host", "foreign_origin")
    assert not (server.root / "log/foreign").exists()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80", "10.1.2.3", "localhost."])
def test_names_of_ours_and_addresses(host: str, server: Running) -> None:
    """An address cannot be made to point elsewhere."""
    assert server.get("/v1/session", headers={"Host": host}).status == 200


def test_a_link_from_another_page_may_be_followed(server: Running) -> None:
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert server.get("/login", key=None, headers=visit).status == 200


def test_two_hosts_are_refused(server: Running) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=10) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\nConnection: close\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("path", ["/livez", "/login", "/nothing", "/v1/session", "/static/login.js"])
def test_each_answer_has_the_headers_that_keep_pages_apart(path: str, server: Running) -> None:
    headers = server.get(path, key=None).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    # A style or a script is kept, and asked for again by its tag.
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")
    assert headers["access-control-allow-origin"] is None
    assert headers["server"] is None
    assert len(headers["eventlog-request-id"]) == 16


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/%2e%2e/etc/passwd", 404, "not_found"),
        ("GET", "/v1/events/", 404, "not_found"),
        ("DELETE", "/v1/heartbeat", 405, "wrong_method"),
        ("GET", "/v1/heartbeat", 405, "wrong_method"),
        ("TRACE", "/v1/heartbeat", 405, "wrong_method"),
    ],
)
def test_errors_have_one_form(method: str, path: str, status: int, code: str, server: Running) -> None:
    answer = server.request(method, path)
    assert (answer.status, answer.code) == (status, code)
    assert answer.json["request_id"] == answer.headers["eventlog-request-id"]
    assert set(answer.json) == {"type", "title", "status", "code", "detail", "request_id"}


def test_names_and_pages_that_were_allowed(tmp_path: Path) -> None:
    """`--public-url` is a name of ours; `--allow-origin` may ask, and read the answer."""
    arguments = ("--public-url", "https://log.example", "--allow-origin", "https://app.example")
    with serving(tmp_path / "root", *arguments) as running:
        assert running.login.startswith("https://log.example/login#token=")
        assert running.get("/v1/session", headers={"Host": "log.example"}).status == 200
        page = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
        answer = running.post("/v1/events", {"event_type": "t"}, headers=page)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert running.request("OPTIONS", "/v1/events", key=None, headers=page).status == 204
        assert running.request("OPTIONS", "/v1/events", key=None, headers={"Origin": "https://x.test"}).status == 403
