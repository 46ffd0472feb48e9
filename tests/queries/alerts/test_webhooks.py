"""Plain webhooks: what is sent by the standard library, where to, and for how long."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from eventlog.queries.alerts import webhooks


@pytest.mark.parametrize(("url", "address"), [
    ("jsons://hooks.example.com/a/b", "https://hooks.example.com/a/b"),
    ("json://127.0.0.1:8080", "http://127.0.0.1:8080/"),
    ("jsons://hooks.example.com/a?-key=x%20y&-n", "https://hooks.example.com/a?key=x%20y&n"),
    ("jsons://ada:se%40cret@hooks.example.com/", "https://hooks.example.com/"),
    ("jsons://[::1]:8443/x", "https://[::1]:8443/x"),
])  # fmt: skip
def test_where_a_plain_webhook_goes(url: str, address: str) -> None:
    """With the fields that a receiver of Apprise's webhooks knows, and a password in a header alone."""
    request = webhooks.request_for(url, "t", "b", "warning")
    assert request is not None
    assert (request.full_url, request.get_method()) == (address, "POST")
    assert isinstance(request.data, bytes)
    assert json.loads(request.data) == {
        "version": "1.0", "title": "t", "message": "b", "attachments": [], "type": "warning",
    }  # fmt: skip
    assert request.get_header("Authorization") == ("Basic YWRhOnNlQGNyZXQ=" if "ada" in url else None)


@pytest.mark.parametrize("url", [
    "slack://a/b/c", "xmls://hooks.example.com/", "jsons://hooks.example.com/?method=PUT", "jsons://h/?+X-A=b",
    "jsons://h/#part", "jsons://a@b@h/", "file:///etc/passwd", "https://h/", "jsons://h/?-a=b&verify=no",
])  # fmt: skip
def test_what_is_left_to_apprise(url: str) -> None:
    """Services, options, and what could be read two ways."""
    assert webhooks.request_for(url, "t", "b", "info") is None


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for() -> None:
    """Each wait is short, and all of them together are too long."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
                    if done.wait(0.05):
                        return
                    connection.send(bytes([byte]))

        thread = threading.Thread(target=drip)
        thread.start()
        request = webhooks.request_for(f"json://127.0.0.1:{server.getsockname()[1]}/", "t", "b", "info")
        assert request is not None
        began_s = time.monotonic()
        assert webhooks.post(request, timeout_s=0.3) == "it did not finish within 0.3 s"
        assert time.monotonic() - began_s < 5
        done.set()
        thread.join()
