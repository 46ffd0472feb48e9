"""What pages of others can do with a browser that is logged in: nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.conftest import lines_of
from tests.server.browser import chromium
from tests.server.running import Running

#: Each returns what came of it: "refused", or what the page could read.
ATTEMPTS = {
    "fetch": "async url => { try { return await (await fetch(url + '/v1/session', {credentials: 'include'})).text() }"
    " catch { return 'refused' } }",
    "fetch without reading": 'async url => { try { const body = \'{"event_type":"from_a_page"}\'; const sent = await'
    " fetch(url + '/v1/events', {method: 'POST', mode: 'no-cors', credentials: 'include', body}); return sent.type }"
    " catch { return 'refused' } }",
    "EventSource": "url => new Promise(done => { const source = new EventSource(url + '/v1/stream',"
    " {withCredentials: true}); source.onopen = () => done('open'); source.onerror = () => done('refused') })",
    "WebSocket": "url => new Promise(done => { const socket = new WebSocket(url.replace('http', 'ws') + '/v1/ws');"
    " socket.onopen = () => done('open'); socket.onerror = () => done('refused') })",
    "script": "url => new Promise(done => { const script = document.createElement('script');"
    " script.onload = () => done('loaded'); script.onerror = () => done('refused');"
    " script.src = url + '/v1/session'; document.head.append(script) })",
    "frame": "url => new Promise(done => { const frame = document.createElement('iframe'); frame.src = url + '/login';"
    " frame.onload = () => { try { done(frame.contentDocument ? 'read' : 'refused') } catch { done('refused') } };"
    " document.body.append(frame) })",
}


@pytest.fixture(scope="module")
def foreign() -> Iterator[str]:
    """A page of somebody else's, at another port."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>A page</title><body></body>")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def test_a_login_link_and_what_foreign_pages_can_do_then(server: Running, foreign: str) -> None:
    with chromium("--host-resolver-rules=MAP evil.test 127.0.0.1, MAP localhost 127.0.0.1") as browser:
        page = browser.new_context().new_page()
        page.goto(server.login)
        page.wait_for_url(lambda url: "/login" not in url)
        assert page.evaluate("() => document.cookie") == ""  # scripts do not see it
        page.goto(f"{server.url}/login")
        own = page.evaluate("async () => (await (await fetch('/v1/session')).json()).scopes")
        assert own == ["admin", "ingest", "read"]

        other = page.context.new_page()
        other.goto(foreign)
        came = {name: other.evaluate(script, server.url) for name, script in ATTEMPTS.items()}
        # What a page may send without reading the answer comes, is refused, and is opaque to it.
        assert came.pop("fetch without reading") in ("opaque", "refused")
        assert set(came.values()) == {"refused"}
        other.set_content(
            f'<form method="post" action="{server.url}/v1/events" enctype="text/plain">'
            '<input name=\'{"event_type":"from_a_form","payload":{"a":"\' value=\'"}}\'><button>Go</button></form>'
        )
        other.click("button")
        other.wait_for_load_state()
        assert '"foreign_origin"' in other.content()

        # DNS rebinding: a name of theirs that points here now. It is another site, so the cookie stays away as well.
        port = server.url.rsplit(":", 1)[1]
        answer = other.goto(f"http://evil.test:{port}/v1/session")
        assert answer is not None
        assert (answer.status, answer.json()["code"]) == (403, "foreign_host")
    assert not lines_of(server.root, "from_a_page")
    assert not lines_of(server.root, "from_a_form")
