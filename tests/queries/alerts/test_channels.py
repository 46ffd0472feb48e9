"""Where alerts go: only to what this root allows, and never by way of a local file, a redirect or a trick."""

from __future__ import annotations

import json
import os
import shutil
import stat
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog.errors import ConfigError, QueryFailed
from eventlog.format import builtin
from eventlog.queries.alerts import allowed, changes, channels, delivery
from eventlog.queries.alerts.check import Checked
from eventlog.queries.store import ReadStore
from tests.conftest import Run
from tests.indexer.support import index
from tests.queries.alerts.support import Channel, checked, emit, listening, rule


def foreign(root: Path, *urls: str, name: str = "spend") -> Checked:
    """A rule that came without `alerts add`, and a check at which it fires."""
    root.mkdir(exist_ok=True)
    emit(
        root,
        (-7200, rule(name, "cost", "5", channels=list(urls)), {}),
        (-60, builtin.LlmCall(request_model="m", cost_usd=Decimal("7.25")), {}),
    )
    index(root)
    return checked(root)


def reasons(done: Checked) -> list[str]:
    return [each.reason or "" for each in done.deliveries]


# -- what is allowed -----------------------------------------------------------------------


def test_a_rule_that_came_from_elsewhere_fires_and_is_not_delivered(root: Path, channel: Channel) -> None:
    """It says so in the check, and in the state of its delivery; once it is allowed, it can be retried."""
    done = foreign(root, channel.url)
    assert len(done.fired) == 1
    assert not done.is_quiet
    assert reasons(done)[0].startswith("not allowed here: alerts.toml does not name 127.0.0.1:")
    store = ReadStore(root)
    (state,) = store.alert_deliveries()
    assert (state.state, state.last_error) == ("not_allowed", reasons(done)[0])
    assert len(store.alerts()[0].dead) == 1
    assert checked(root, 99_999).deliveries == []
    assert channel.received == []
    allowed.allow(root, [channel.url])
    assert changes.retry(root) == 1
    assert [each.ok for each in checked(root, 199_999).deliveries] == [True]


def test_what_add_names_is_allowed_and_nothing_else(root: Path, channel: Channel) -> None:
    """Also where the rule stands like that already."""
    definition = rule("spend", "cost", "5", channels=[channel.url])
    emit(root, (-7200, definition, {}), (-60, builtin.LlmCall(request_model="m", cost_usd=Decimal(7)), {}))
    assert changes.add(root, definition) is None
    with listening() as other:
        done = foreign(root, other.url, channel.url, name="b")
        assert sorted(each.ok for each in done.deliveries) == [False, True, True]
        assert other.received == []
    assert len(channel.received) == 2


def test_a_copied_root_and_a_restored_log_deliver_nowhere(root: Path, tmp_path: Path, channel: Channel) -> None:
    """The file is no part of the log."""
    changes.add(root, rule("spend", "cost", "5", channels=[channel.url]))
    copy = tmp_path / "copy"
    shutil.copytree(root / "log", copy / "log")
    emit(copy, (10**8, builtin.LlmCall(request_model="m", cost_usd=Decimal(7)), {}))
    done = checked(copy, 10**8 + 60)
    assert [each.startswith("not allowed here") for each in reasons(done)] == [True]
    assert channel.received == []


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("json://good.example/x", "json://good.example@evil.example/x"),
        ("json://good.example/x", "json://good.example:80@evil.example/x"),
        ("json://good.example/x", "json://evil.example/good.example"),
        ("json://good.example/x", "json://good.example.evil.example/x"),
        ("json://good.example/x", "json://evilgood.example/x"),
        ("json://good.example/x", "json://good.example./x"),
        ("json://good.example/x", "json://good.example:8080/x"),
        ("json://good.example/x", "jsons://good.example/x"),
        ("json://good.example/x", "json://evil.example?good.example"),
        ("json://good.example/x", "json://evil.example#@good.example"),
        ("json://good.example/x", "json://evil.example\\@good.example/x"),
        ("json://good.example/x", "json://evil.example%2f@good.example@evil.example"),
        ("json://good.example/x", "json://good%2eexample/x"),
        ("json://good.example/x", "json://g\u043eod.example/x"),
        ("json://127.0.0.1/x", "json://2130706433/x"),
        ("json://127.0.0.1/x", "json://0x7f.1/x"),
        ("json://127.0.0.1/x", "json://[::ffff:127.0.0.1]/x"),
        ("json://localhost/x", "json://127.0.0.1/x"),
        ("slack://TokenA/TokenB/TokenC123", "slack://TokenA/TokenB/TokenC124"),
        ("slack://TokenA/TokenB/TokenC123", "discord://TokenA/TokenB"),
        ("mailto://u:p@mail.example", "mailto://u:p@mail.example?smtp=evil.example"),
        ("env:HOOK", "env:HOOK2"),
        ("env:HOOK", "json://env:80/HOOK"),
    ],
)
def test_what_only_looks_like_an_allowed_one_is_not(allow: str, url: str) -> None:
    """The match is exact, by what the URL means."""
    permissions = [channels.permission(allow)]
    made = allowed.Allowed(hosts=permissions, channels=permissions)
    assert made.why_not(allow) is None
    assert (made.why_not(url) or "").startswith("not allowed here")


@pytest.mark.parametrize("url", ["JSON://GOOD.example/other", "xml://u:p@good.example:80/", "form://good.example?+A=b"])
def test_one_host_is_one_host_however_it_is_written(url: str) -> None:
    """Case, the port that is meant anyhow, the kind of webhook."""
    assert allowed.Allowed(hosts=["good.example:80"]).why_not(url) is None


# -- the file ------------------------------------------------------------------------------


def test_the_file_is_its_owners_alone_whatever_the_umask(root: Path) -> None:
    """And names no secret."""
    before = os.umask(0)
    try:
        wanted = ["json://u:s3cr3t@good.example/t0ken", "slack://TokenA/TokenB/TokenC123", "env:HOOK"]
        changes.add(root, rule("a", "cost", "5", channels=wanted))
    finally:
        os.umask(before)
    path = root / "alerts.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert '"good.example:80"' in text
    assert '"env:HOOK"' in text
    assert not any(secret in text for secret in ("s3cr3t", "t0ken", "TokenA", "TokenC123"))
    changes.add(root, rule("b", "cost", "5", channels=["xmls://other.example/"]))
    assert allowed.read(root).hosts == ["good.example:80", "other.example:443"]
    assert sorted(each.name for each in root.glob("alerts.toml*")) == ["alerts.toml"]


def _writable(path: Path) -> None:
    path.chmod(0o622)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _no_toml(path: Path) -> None:
    path.write_bytes(b"hosts = [\xff")


def _other_types(path: Path) -> None:
    path.write_text("hosts = true")


def _unknown_key(path: Path) -> None:
    path.write_text('host = ["127.0.0.1:80"]')


def _huge(path: Path) -> None:
    path.write_text("# " + "x" * 1024 * 1024)


@pytest.mark.parametrize(
    "harm", [_writable, _link, _dangling, _fifo, _folder, _no_toml, _other_types, _unknown_key, _huge]
)
def test_a_file_that_cannot_be_trusted_allows_nothing(root: Path, channel: Channel, harm: object) -> None:
    """Rules fire, nothing is delivered or counted as an attempt, and it is reason why."""
    changes.add(root, rule("other", "cost", "500", channels=[channel.url]))
    harm(root / "alerts.toml")  # type: ignore[operator]
    done = foreign(root, channel.url)
    assert (len(done.fired), done.deliveries, done.undelivered) == (1, [], 1)
    assert (done.note or "").startswith("not allowed here: ")
    assert str(root / "alerts.toml") in (done.note or "")
    assert channel.received == []
    with pytest.raises(ConfigError):
        changes.add(root, rule("more", "cost", "5", channels=["json://more.example"]))
    assert "more" not in {each.name for each in ReadStore(root).alert_rules()}


# -- local files, programs, redirects ------------------------------------------------------

REFUSED = [
    "workflow://127.0.0.1:9/id/signature?template={file}", "workflow://127.0.0.1:9/id/signature?verify=no;template={file}",
    "workflow://127.0.0.1:9/id/signature?%74emplate={file}", "workflow://127.0.0.1:9/id/s?TEMPLATE={file}",
    "workflow://127.0.0.1:9/id/s? template={file}", "workflow://127.0.0.1:9/id/s?x?template={file}",
    "slack://TokenA/TokenB/TokenC123?template={file}", "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js?template={file}",
    "tgram://123456789:abcdefg_hijklmnop/1?template={file}", "mailto://u:p@127.0.0.1?pgp=yes&pgppub={file}",
    "mailto://u:p@127.0.0.1?pgpprv={file}", "ntfy://127.0.0.1:9/t?attach={file}", "json://127.0.0.1:9/?attach-as=x",
    "json://127.0.0.1:9/?redirect=yes", "json://127.0.0.1:9/?+Host=evil", "json://127.0.0.1:9/?tz=../../../etc/passwd",
    "fcm://project/{file}/token?keyfile={file}", "vapid://u@example.com/t?keyfile={file}", "file://{file}",
    "script://{file}", "exec://{file}", "syslog://", "rsyslog://127.0.0.1:9", "dbus://", "kde://", "gnome://",
    "windows://", "macosx://", "glib://", "blink1://", "signal://127.0.0.1:9/+15555555555", "mqtt://127.0.0.1:9/t",
    "amqp://127.0.0.1:9/q", "ftp://127.0.0.1:9/", "unknown://x", "://", "json:/x",
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
def test_no_local_file_is_opened_and_no_program_run(tmp_path: Path, url: str) -> None:
    """Refused when it is added, and when it is delivered although it is allowed."""
    import sys

    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"type": "service_account", "private_key": "LOCAL-FILE-SECRET-42"}))
    url = url.format(file=file)
    opened: list[str] = []
    watching = [True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and (event in ("subprocess.Popen", "os.system") or (event == "open" and arguments[0] == str(file))):
            opened.append(event)

    sys.addaudithook(hook)
    try:
        assert channels.refusal(url) is not None
        with pytest.raises(QueryFailed):
            changes.add(tmp_path / "root", rule("r", "cost", "5", channels=[url]))
        reason = delivery.send(url, delivery.test_message("x"), {}, timeout_s=2)
    finally:
        watching.clear()
    assert reason
    assert "LOCAL-FILE-SECRET-42" not in reason
    assert opened == []


def test_a_variable_may_hold_no_more_than_a_rule(tmp_path: Path) -> None:
    """What the environment says is the operator's word for the host, and no way to open files."""
    reason = delivery.send("env:HOOK", delivery.test_message("x"), {"HOOK": f"workflow://h/i/s?template={tmp_path}"})
    assert "an option that is not allowed here" in (reason or "")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(root: Path, channel: Channel, code: int) -> None:
    """It is a failure, and tried again as others are."""
    with listening() as other:
        channel.answers, channel.location = [code], other.url.replace("json://", "http://")
        allowed_root = root
        allowed_root.mkdir()
        allowed.allow(root, [channel.url])
        done = foreign(root, channel.url)
        assert [each.ok for each in done.deliveries] == [False]
        assert done.deliveries[0].retry_at is not None
        assert other.received == []
    assert len(channel.received) == 1


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1:8080/hook", "jsons://user:pa%40ss@host.example/a/b?+X-Api-Key=k&-to=x&:field=value&method=PUT",
        "xml://host_name/", "form://[::1]:8080/x", "slack://TokenA/TokenB/TokenC123/#channel",
        "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js?footer=yes", "tgram://123456789:abcdefg_hijklmnop/12315544/",
        "mailtos://user:pass@gmail.com?to=a@b.example&smtp=mail.example", "ntfys://host/topic?priority=high",
        "gotifys://host/token", "pover://user@token", "workflow://host.example/id/signature",
    ],
)  # fmt: skip
def test_what_people_use_is_taken(url: str) -> None:
    """By us, and by Apprise, which sees the same host."""
    assert channels.refusal(url) is None
    assert delivery._service(url) is not None


# -- secrets -------------------------------------------------------------------------------

SPELLED = [
    ("json://user:p%40ssw0rd9@h.example/x", "login failed for user with p@ssw0rd9", "p@ssw0rd9"),
    ("json://user:S3cret+pw@h/x", "bad S3cret pw", "S3cret pw"),
    ("mailto://u:abc@smtp.h", "bad password abc", "abc"),
    ("mailto://u:xy@smtp.h", "bad password 'xy'", "xy"),
    ("tgram://123456:ABCdefGHI/42", "api.telegram.org/bot123456:ABCdefGHI/sendMessage", "ABCdefGHI"),
    ("json://h/?+X-Api-Key=k9k9k9", "header X-Api-Key k9k9k9", "k9k9k9"),
    ("slack://TokenA/TokenB/TokenC123/#chan", "400 for services/TokenA/TokenB/TokenC123", "TokenC123"),
    ("json://h/?token=a%2Bb%3Dc", "token a+b=c is wrong", "a+b=c"),
    ("json://u:p%2540w@h/", "for p%40w", "p%40w"),
    ("json://u:p%2540w@h/", "for p@w", "p@w"),
    ("json://u:a%26b@h/", "<b>a&amp;b</b>", "a&amp;b"),
    ("json://u:q%22r@h/", r'{"password": "q\"r"}', r"q\"r"),
    ("json://u:SeCrEt@h/", "for secret", "secret"),
    ("json://u:p%C3%A4ss@h/", "for p\u00e4ss", "p\u00e4ss"),
    ("json://h/T0KEN123", "POST /T0KEN123 failed", "T0KEN123"),
]


@pytest.mark.parametrize(("url", "text", "secret"), SPELLED)
def test_no_spelling_of_a_secret_stays_in_an_error(url: str, text: str, secret: str) -> None:
    """Decoded, with a space for a plus, three characters long, in other letters."""
    assert secret in text
    assert secret not in channels.redacted(text, url)


@given(
    secret=st.text(
        st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=["Cs", "Cc", "Z"]), min_size=3
    )
)
@example(secret="RTO")
@example(secret="method")
@example(secret="json")
def test_a_password_is_never_shown_whole(secret: str) -> None:
    """Whatever is in it, encoded either way."""
    for coded in (quote(secret, safe=""), quote_plus(secret)):
        reason = channels.redacted(f"login as me with <{secret}> and <{coded}> failed", f"json://me:{coded}@h.example/")
        assert f"<{secret}>" not in reason
        assert f"<{coded}>" not in reason


def test_errors_stay_readable() -> None:
    """The host of a webhook, its port, and the names of options are no secrets."""
    text = "POST to h.example:8080 with method failed, error=503"
    assert channels.redacted(text, "json://h.example:8080/?method=PUT") == text


def test_a_mistyped_url_is_not_repeated(root: Path, run: Run) -> None:
    """It may hold a password."""
    root.mkdir()
    for target in ("json:/user:s3cr3t@h", "user:s3cr3t@h.example"):
        done = run("alerts", "test", target)
        assert done.returncode != 0
        assert "s3cr3t" not in done.stdout + done.stderr


def test_the_command_says_what_is_not_allowed(root: Path, run: Run) -> None:
    """A rule that `eventlog emit` has set is one that came from elsewhere."""
    assert run("emit", "llm_call", '{"request_model": "m", "cost_usd": "7"}').returncode == 0
    definition = {"name": "r", "kind": "cost", "threshold": "5", "channels": ["json://127.0.0.1:9/s3cr3t"]}
    assert run("emit", "alert_rule_set", json.dumps(definition)).returncode == 0
    done = run("alerts", "check")
    assert done.returncode == 1
    assert "fired     warning   r: $7.00" in done.stdout
    assert "not allowed here: alerts.toml does not name 127.0.0.1:9" in done.stdout
    assert "s3cr3t" not in done.stdout + done.stderr
    assert "not allowed here" in run("alerts", "list", "--dead").stdout
    assert "not allowed here" in run("alerts", "test", "r").stdout


@pytest.mark.parametrize(
    ("pasted", "channel"),
    [
        ("https://example.com/hook", "jsons://example.com/hook"),
        ("HTTP://example.com:8080/hook", "json://example.com:8080/hook"),
        ("https://me:pw@example.com", "jsons://me:pw@example.com"),
        ("https://example.com/hook?key=a&n=1", "jsons://example.com/hook?-key=a&-n=1"),
        ("https://hooks.slack.com/services/T0/B0/abc/", "slack://T0/B0/abc"),
        ("https://discord.com/api/webhooks/12/abc", "discord://12/abc"),
        ("mailto://me:pw@example.com", "mailto://me:pw@example.com"),
        ("env:HOOK", "env:HOOK"),
    ],
)
def test_a_web_address_is_a_webhook(pasted: str, channel: str) -> None:
    """What people paste; parameters are passed on to the host."""
    assert channels.from_web_address(pasted) == channel
    assert channels.normal(pasted) == channel
    assert channels.variable(channel) or channels.refusal(channel) is None
