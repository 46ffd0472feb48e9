"""Secrets do not reach the log, what is no secret does, and nothing is lost or hurt by it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog as obs
from eventlog.errors import ConfigError
from eventlog.format import schemas
from eventlog.record import redaction
from eventlog.record.recorder import Recorder
from tests.conftest import Run, lines_of

TEXT = "0123456789abcdefghijABCDEFGHIJ0123456789"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIE+/=\nabc\n-----END RSA PRIVATE KEY-----"
HEX = "8f14e45fceea167a5a36dedd4bea2543"
AWS = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"

#: A secret by its looks, and what is left of it.
SHAPES = [
    (f"sk-ant-api03-{TEXT}-_AA", "[redacted:api_key]"),
    (f"sk-proj-{TEXT}", "[redacted:api_key]"),
    (f"sk-{TEXT}", "[redacted:api_key]"),
    (f"ghp_{TEXT}", "[redacted:github_token]"),
    (f"gho_{TEXT}", "[redacted:github_token]"),
    (f"ghs_{TEXT}", "[redacted:github_token]"),
    (f"github_pat_11{TEXT}_{TEXT}", "[redacted:github_token]"),
    ("AKIAIOSFODNN7EXAMPLE", "[redacted:aws_key_id]"),
    ("ASIAIOSFODNN7EXAMPLE", "[redacted:aws_key_id]"),
    ("xoxb-123456789012-abcdefghijkl", "[redacted:slack_token]"),
    ("xoxp-123456789012-abcdefghijkl", "[redacted:slack_token]"),
    ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "[redacted:google_key]"),
    (f"sk_live_{TEXT}", "[redacted:stripe_key]"),
    (f"rk_live_{TEXT}", "[redacted:stripe_key]"),
    (f"sk_test_{TEXT}", "[redacted:stripe_key]"),
    (f"rk_test_{TEXT}", "[redacted:stripe_key]"),
    (f"whsec_{TEXT}/+=", "[redacted:webhook_secret]"),
    (
        "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXX",
        "https://hooks.slack.com/services/[redacted:webhook_url]",
    ),
    (f"hf_{TEXT}", "[redacted:huggingface_token]"),
    ("hf_aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH", "[redacted:huggingface_token]"),
    (f"glpat-{TEXT}", "[redacted:gitlab_token]"),
    (f"gsk_{TEXT}", "[redacted:api_key]"),
    (f"xai-{TEXT}", "[redacted:api_key]"),
    (f"npm_{TEXT}", "[redacted:npm_token]"),
    ("pypi-AgEIcHlwaS5vcmcCJGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6", "[redacted:pypi_token]"),
    ("SG.aBcDeFgH12345678ijklmn.aBcDeFgH12345678ijklmnopqrstuvwxyz12aBcDeFg", "[redacted:api_key]"),
    ("ya29.a0AfH6SMBaBcDeFgH12345678ijklmnopqrstuvwxyz12", "[redacted:google_token]"),
    (f"sk-ant-api03-ab_cd-e1-{TEXT}", "[redacted:api_key]"),
    ("sk-lf-8f14e45f-ceea-467a-9a36-dedd4bea2543", "[redacted:api_key]"),
    (JWT, "[redacted:jwt]"),
    (PEM, "[redacted:private_key]"),
    (f"Bearer {TEXT}", "Bearer [redacted:bearer]"),
    (f"authorization: bearer {HEX}", "authorization: bearer [redacted:bearer]"),
    (f"BEARER {HEX}", "BEARER [redacted:bearer]"),
    ("Basic dXNlcjpwYXNz", "Basic [redacted:basic]"),
    ("postgres://bob:hunter2@db.example.com/x", "postgres://bob:[redacted:url_password]@db.example.com/x"),
]

#: The name of a field, and the kind of secret that its text is.
NAMES = [
    ("password", "password"), ("passwd", "password"), ("DB_PASSWORD", "password"), ("passphrase", "password"),
    ("secret", "secret"), ("client_secret", "secret"), ("clientSecret", "secret"),
    ("aws_secret_access_key", "secret"), ("SECRET_KEY", "secret"), ("secretKey", "secret"),
    ("api_key", "api_key"), ("apikey", "api_key"), ("apiKey", "api_key"), ("X-Api-Key", "api_key"),
    ("OPENAI_API_KEY", "api_key"), ("access_token", "access_token"), ("accessToken", "access_token"),
    ("refresh_token", "refresh_token"), ("private_key", "private_key"), ("privateKey", "private_key"),
    ("authorization", "authorization"), ("Authorization", "authorization"), ("Proxy-Authorization", "authorization"),
]  # fmt: skip

#: What looks a little like a secret, and has to stay.
HARMLESS: list[dict[str, Any]] = [
    {"max_tokens": 4096, "cache_read_tokens": 12, "token": "Hello", "tokens": ["a", "b"]},
    {"id": "01a1fc0e-90e7-7614-b5c5-39cd6cbb2847", "tool_call_id": "toolu_01A09q90qw90lq917835lq9"},
    {"sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "commit": "4f3a2b1c"},
    {"image": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"},
    {"text": "task-list risk-averse sk-fading-circle-container-with-dots Asia AKIA eyJ xox"},
    {"text": "a basic understanding, Basic TypeScriptCompiler, Bearer authentication, bearer of news"},
    {"code": "api_key=os.environ, secret=None, password=password, key == secret, def f(password=''): pass"},
    {"secret": None, "password": 7, "api_key": True, "password_hash": "x", "secrets": "two", "authorized": "no"},
    {"url": "https://example.com:8080/a@b?c=d", "mail": "bob@example.com", "git": "git@github.com:a/b.git"},
    {"slug": "sk-learn-contrib-package-version-2", "branch": "sk-1234-fix-the-login sk-upgrade-to-python311-now"},
    {"package": "pypi-publish-workflow-release-2", "npm": "npm_config_registry_for_node_20", "hf": "hf_transfer_2026"},
    {
        "max_tokens": 5,
        "token_count": "12",
        "token": 5,
        "csrf_token": None,
        "text": "max_tokens: 40960000, tokens=12345678",
    },
    {"text": "the secret is: be kind; password: must have 8 characters; token: 12345678 of 3; password: 8-32"},
    {"code": "def f(token: str, password: str = None, secret: bytes32, token: uint64_t, api_key: Optional[Str1234])"},
    {"code": "token = tokens[1]; password=get_password1(x); secret = config.secret1; token == token12345"},
    {"settings": "password: $DB_PASSWORD_1, api_key = ${API_KEY_12}, secret: https://vault.example.com/v1/x"},
    {"text": "authorization: bearer of news, authorization: see below, SG. eyes, ya29. xai-grok-code-fast-1"},
    {"commit": "8f14e45fceea167a5a36dedd4bea254312345678", "text": "git show 8f14e45fceea167a5a36dedd4bea2543: fine"},
    {"url": "https://hooks.slack.com/docs https://a.b/c?n=8f14e45fceea167a", "pem": "-----BEGIN PUBLIC KEY-----"},
    {"password: \\": "x1234567", "token = ": "x1234567", "secret: '": "x1234567", "api_key:": "x1234567"},
    {"text": "[redacted:password]", "password": "[redacted:password]", "empty": {"secret": ""}},
]


def redacted(value: object) -> Any:
    """What the log would have of a payload."""
    return json.loads(redaction.redact(msgspec.json.encode(value)))


@pytest.mark.parametrize(("secret", "left"), SHAPES, ids=lambda text: text[:16])
@pytest.mark.parametrize("around", ["{}", "a {} b", "line\n{}\nline", "“{}”", "({})", "\t{}\r", '"{}"', "x={};"])
def test_a_secret_is_known_by_its_looks(secret: str, left: str, around: str) -> None:
    """Wherever it stands in a text, and what is around it stays."""
    text = around.replace("{}", secret)
    assert redacted({"text": text, "n": [{"deep": text}]}) == {
        "text": around.replace("{}", left),
        "n": [{"deep": around.replace("{}", left)}],
    }


@pytest.mark.parametrize(("secret", "left"), SHAPES, ids=lambda text: text[:16])
def test_a_secret_is_known_in_json_inside_of_a_text(secret: str, left: str) -> None:
    """With escapes for what is not ASCII, too."""
    inner = json.dumps({"a": json.dumps({"b": f"é{secret}\n"})})
    (found,) = redacted({"text": inner}).values()
    assert json.loads(json.loads(found)["a"])["b"] == f"é{left}\n"


@pytest.mark.parametrize(("name", "kind"), NAMES)
@pytest.mark.parametrize("value", ["hunter2", 'a"b', "a\\", '\\"', "two words", "é", "x\n"])
def test_a_secret_is_known_by_the_name_of_its_field(name: str, kind: str, value: str) -> None:
    """At any depth of JSON inside of JSON; the rest stays as it was."""
    mark = f"[redacted:{kind}]"
    plain = {"before": 'b"', name: value, "after": "a"}
    expected = plain | {name: mark}
    assert redacted(plain) == expected
    assert redacted({"x": [plain]}) == {"x": [expected]}
    assert json.loads(redacted({"x": json.dumps(plain)})["x"]) == expected
    twice = redacted({"x": json.dumps({"y": json.dumps(plain), "z": 1})})["x"]
    assert json.loads(json.loads(twice)["y"]) == expected
    for separator in (" : ", " :", "   : "):  # as Jackson prints, and others
        spaced = redacted({"x": json.dumps(plain, separators=(", ", separator))})["x"]
        assert json.loads(spaced) == expected
    thrice = redacted({"x": json.dumps([json.dumps([json.dumps(plain)])])})["x"]
    assert json.loads(json.loads(json.loads(thrice)[0])[0]) == expected


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("{'password': 'hunter2', 'n': 1}", "{'password': '[redacted:password]', 'n': 1}"),
        ("DB_PASSWORD=hunter2\nX=1", "DB_PASSWORD=[redacted:password]\nX=1"),
        ('export API_KEY="a b"', 'export API_KEY="[redacted:api_key]"'),
        ("connect(password = 'x y')", "connect(password = '[redacted:password]')"),
        ("https://x/?access_token=abc123&n=1", "https://x/?access_token=[redacted:access_token]&n=1"),
        (f"aws_secret_access_key = {AWS}", "aws_secret_access_key = [redacted:secret]"),
        (f"     2→aws_secret_access_key={AWS}", "     2→aws_secret_access_key=[redacted:secret]"),
        ("DB_PASSWORD = hunter2hunter2\nX=1", "DB_PASSWORD = [redacted:password]\nX=1"),
        ("db_password          =    hunter2", "db_password          =    [redacted:password]"),
        ("PASSWORD   =hunter2", "PASSWORD   =[redacted:password]"),
        ("db:\n  password: hunter2hunter2\n  n: 1", "db:\n  password: [redacted:password]\n  n: 1"),
        ('{password: "hunter2", n: 1}', '{password: "[redacted:password]", n: 1}'),
        ("passwd:   'hunter2'", "passwd:   '[redacted:password]'"),
        (f"api_key: {HEX}", "api_key: [redacted:api_key]"),
        (f"client_secret: {HEX}", "client_secret: [redacted:secret]"),
        (f"token: {HEX}", "token: [redacted:token]"),
        ("token: hunter2hunter2", "token: [redacted:token]"),
        (f"curl -H 'X-Api-Key: {HEX}' https://a", "curl -H 'X-Api-Key: [redacted:api_key]' https://a"),
        (f'curl -H "Authorization: token {HEX}"', 'curl -H "Authorization: token [redacted:authorization]"'),
        (f"Authorization: {HEX}\r\n", "Authorization: [redacted:authorization]\r\n"),
        (f"export GITHUB_TOKEN={HEX}", "export GITHUB_TOKEN=[redacted:token]"),
        (f'NPM-TOKEN="{HEX}"', 'NPM-TOKEN="[redacted:token]"'),
        (f"SLACK_TOKEN = {HEX}", "SLACK_TOKEN = [redacted:token]"),
        (f"https://x/?token={HEX}&n=1", "https://x/?token=[redacted:token]&n=1"),
        (f"{{b'x-api-key': b'{HEX}'}}", "{b'x-api-key': b'[redacted:api_key]'}"),
        ('{"password": "cut off', '{"password": "[redacted:password]'),
        (PEM.partition("\n-----END")[0] + "\\", "[redacted:private_key]\\"),
        (PEM.partition("\n-----END")[0] + '"', '[redacted:private_key]"'),
        (f"{PEM}sk-{TEXT}", "[redacted:private_key][redacted:api_key]"),
    ],
)
def test_a_secret_is_known_by_a_name_in_code_and_settings(text: str, left: str) -> None:
    """As programs print them."""
    assert redacted({"output": text}) == {"output": left}


@pytest.mark.parametrize("name", ["token", "github_token", "x-ci-token", "BOT_TOKEN", "botToken"])
def test_a_token_is_known_by_its_name_and_what_it_looks_like(name: str) -> None:
    """ "Token" is also a word of models and of parsers, whose tokens have no digits among letters."""
    (left,) = redacted({name: HEX}).values()
    assert left == "[redacted:token]"
    assert json.loads(redacted({"x": json.dumps({name: HEX})})["x"]) == {name: left}
    for harmless in ("Hello", "2026-11-21", "identifier", "two words 22", 5, None):
        assert redacted({name: harmless}) == {name: harmless}


@pytest.mark.parametrize("number", ["{:6}→", "{:6}\t", "{}:", "{}-", "id_rsa:", "a/b.pem:{}:", "{:3} | "])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_private_key_is_known_with_numbered_lines(number: str, ascii_only: bool) -> None:
    """As tools print files, whole or cut off."""
    lines = [number.format(n) + line for n, line in enumerate([*PEM.split("\n"), "after"], 1)]
    for left, shown in (lines[-1], lines), (None, lines[:5]):
        data = json.dumps({"x": "\n".join(shown), "y": "stays"}, ensure_ascii=ascii_only).encode()
        mark = number.format(1) + "[redacted:private_key]"
        expected = {"x": mark if left is None else f"{mark}\n{left}", "y": "stays"}
        assert json.loads(redaction.redact(data)) == expected


@pytest.mark.parametrize("payload", HARMLESS, ids=lambda each: next(iter(each)))
def test_what_is_no_secret_stays(payload: dict[str, Any]) -> None:
    """Byte for byte."""
    data = msgspec.json.encode(payload)
    assert redaction.redact(data) == data


def test_a_scheme_is_known_in_lower_case_at_the_beginning_of_a_text() -> None:
    """As headers of HTTP/2 are printed."""
    assert redacted({"auth": f"bearer {HEX}"}) == {"auth": "bearer [redacted:bearer]"}
    assert redacted({"text": "bearer of news"}) == {"text": "bearer of news"}


@pytest.mark.parametrize(
    "text",
    [
        """{'auth_token':u"bearer %s"}""",
        """{"authorization" :u"bearer %s"}""",
        """{"authorization":\u00a0"bearer %s"}""",
    ],
)
def test_what_stands_before_the_quote_hides_nothing(text: str) -> None:
    """Old Python's prefixes, and spaces that are none to JSON, within a text."""
    found = redacted({"text": json.dumps(text % TEXT)})["text"]
    assert TEXT not in found
    assert "[redacted:" in found


def test_raw_json_with_white_space_is_redacted() -> None:
    """As another encoder writes it."""
    data = json.dumps({"password": "hunter2", "text": f"é sk-{TEXT}"}).encode()
    assert json.loads(redaction.redact(data)) == {"password": "[redacted:password]", "text": "é [redacted:api_key]"}


@pytest.mark.parametrize("colon", [":", ": ", ":\t", ":\r", ":  ", " :", " : ", "   : ", " :\t"])
def test_white_space_around_a_colon_hides_nothing(colon: str) -> None:
    """Raw JSON may hold what no encoder of ours writes."""
    data = f'{{"n"{colon}1,"db_password"{colon}"hunter2","x"{colon}[]}}'.encode()
    assert redaction.redact(data) == data.replace(b"hunter2", b"[redacted:password]")


@pytest.mark.parametrize("name", ["password=\\", "password\\", "x='", "password='", 'password=\\"'])
def test_what_ends_a_name_is_not_taken_for_the_beginning_of_a_value(name: str) -> None:
    """A quote behind an even number of backslashes ends a text."""
    assert redacted({name: "", "text": "stays"}) == {name: "", "text": "stays"}
    assert json.loads(redacted({"x": json.dumps({name: ""})})["x"]) == {name: ""}


_words = st.sampled_from(
    [
        *(secret for secret, _ in SHAPES), *(name for name, _ in NAMES), *(left for _, left in SHAPES),
        "=", ":", "'", '"', "\\", "\n", " ", "-", "_", "@", "://", "a", "7", "é", "[redacted:password]", "{", "}",
        "token", ": ", " = ", "hunter2hunter2", HEX, "→", "12:",
    ]
)  # fmt: skip
_texts = st.lists(_words, max_size=8).map("".join) | st.text(max_size=8)
_nested = _texts | st.dictionaries(_texts, _texts, max_size=3).map(json.dumps)
_payloads = st.dictionaries(
    _texts, _nested | st.lists(_nested | st.none() | st.floats(allow_nan=False, allow_infinity=False)), max_size=4
)


@given(_payloads, st.booleans())
def test_json_stays_json_of_the_same_shape(payload: dict[str, Any], ascii_only: bool) -> None:
    """Whatever the texts are; and redacting once more changes nothing."""
    data = json.dumps(payload, ensure_ascii=ascii_only).encode()
    once = redaction.redact(data)
    after = json.loads(once, object_pairs_hook=list)
    assert shape(after) == shape(json.loads(data, object_pairs_hook=list))
    assert redaction.redact(once) == once


def shape(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [shape(each) for each in value]
    return str if isinstance(value, str) else value


_HOSTILE = [
    b"sk-", b"sk-a", b"-sk-", b"secret=", b"password\\\":\\\"", b"password':'", b"://a:", b"eyJaaaaaaaaaaaa.",
    b"Bearer ", b"Basic aaaaaaaa ", b"-----BEGIN PRIVATE KEY-----", b"-----BEGIN A ", b"AKIA", b"ghp_", b"\\\\",
    b"\\n", b"api_key=a", b"authorization", b"password\\\\\\\": \\\\\\\"", b"passwordpassword\\\":", b"AIzaA",
    b"xoxb-", b"=", b":", b"_", b"-", b"a", b"token: ", b"token =", b"password: a", b"secret   ",
    b"authorization: token ", b"SG.aaaaaaaaaaaaaaaaa", b"ya29.", b"sk-1a-", b"://hooks.slack.com/services/",
    b"-----BEGIN PRIVATE KEY-----\\n1:", b"-----BEGIN PRIVATE KEY-----\\na",
    b"\\na:bcde", b"\\n     1", b"1", b" ", b"hf_", b"token=a", b"token=1", b"token=1$", b"secret=1", b"token: \\\"",
]  # fmt: skip


@pytest.mark.parametrize("piece", _HOSTILE)
def test_no_text_takes_more_time_than_its_length_explains(piece: bytes) -> None:
    """Twice the text takes twice the time; trying the same bytes over and over would take four times as long."""

    def taken_s(size: int) -> float:
        data = b'{"password":"x","text":"' + piece * (size // len(piece)) + b'"}'
        start_s = time.thread_time()
        redaction.redact(data)
        return time.thread_time() - start_s

    taken_s(1000)  # compiles the expressions
    assert min(taken_s(80_000) / taken_s(40_000) for _ in range(3)) < 3
    assert taken_s(80_000) < 3  # some 0.4 s on a fast machine, and up to 2 on a slow and busy one


# -- in the recorder ---------------------------------------------------------------------------


def payloads(root: Path, event_type: str) -> list[Any]:
    return [json.loads(line)["payload"] for line in lines_of(root, event_type)]


def test_nothing_that_is_emitted_has_secrets_on_disk(root: Path) -> None:
    """By name or typed, one or many."""
    obs.configure(root=root, strict=True)
    obs.emit("t", {"password": "hunter2"})
    obs.emit_many("t", [{"text": "Bearer hunter2abc"}, {"n": 1}])
    obs.emit(obs.events.ToolCall(tool_name="curl", arguments={"api_key": "hunter2"}, result="ok"))
    obs.shutdown()
    assert payloads(root, "t") == [{"password": "[redacted:password]"}, {"text": "Bearer [redacted:bearer]"}, {"n": 1}]
    assert payloads(root, "tool_call") == [
        {"tool_name": "curl", "arguments": {"api_key": "[redacted:api_key]"}, "result": "ok"}
    ]
    assert not any(b"hunter2" in path.read_bytes() for path in root.rglob("*.jsonl"))


def test_capture_shows_what_the_log_would_have() -> None:
    """So that tests can look for secrets."""
    with obs.capture() as memory:
        obs.emit("t", {"password": "hunter2"})
    assert memory.events[0].data() == {"password": "[redacted:password]"}


def test_finished_envelopes_are_kept_as_they_are(recorder: Recorder, root: Path) -> None:
    """Importers keep foreign lines verbatim."""
    made = obs.Envelope(
        event_id="01a1fc0e-90e7-7614-b5c5-39cd6cbb2847", event_type="t", timestamp="2026-01-01T00:00:00.000000Z",
        payload=msgspec.Raw(b'{"password":"x"}'),
    )  # fmt: skip
    recorder.record([made])
    assert payloads(root, "t") == [{"password": "x"}]


def test_it_can_be_turned_off(run: Run, root: Path) -> None:
    """In the environment, for the command as for programs."""
    assert run("emit", "t", '{"password":"x"}', EVENTLOG_REDACT="false").returncode == 0
    assert run("emit", "t", '{"password":"x"}').returncode == 0
    assert payloads(root, "t") == [{"password": "x"}, {"password": "[redacted:password]"}]


def test_a_function_of_the_users_comes_after_the_built_in_set(root: Path) -> None:
    """It is told the type, outlives `configure`, and can be taken away."""
    seen = []

    def no_names(event_type: str, payload: dict[str, Any]) -> dict[str, Any]:
        seen.append((event_type, dict(payload)))
        return payload | {"name": "[redacted:name]"}

    obs.configure(root=root, strict=True, redactor=no_names)
    obs.emit("t", {"name": "Bob", "password": "x"})
    obs.configure(root=root, strict=True)
    obs.emit("t", {"name": "Bob"})
    obs.redact_with(None)
    obs.emit("t", {"name": "Bob"})
    obs.shutdown()
    assert seen == [("t", {"name": "Bob", "password": "[redacted:password]"}), ("t", {"name": "Bob"})]
    assert [each["name"] for each in payloads(root, "t")] == ["[redacted:name]", "[redacted:name]", "Bob"]


def _raises(event_type: str, payload: dict[str, Any]) -> dict[str, Any]:
    raise TypeError(payload["name"])


@pytest.mark.parametrize(
    ("redactor", "reason"),
    [
        (_raises, "redactor failed: TypeError"),
        (lambda *_: None, "redactor returned NoneType, not dict"),
        (lambda *_: {"name": object()}, "redactor failed: InvalidEvent"),
        (lambda *_: {"name": float("nan")}, "redactor failed: InvalidEvent"),
        (lambda payload: payload, "redactor failed: TypeError"),
    ],
)
def test_a_redactor_that_fails_withholds_the_content(root: Path, redactor: Any, reason: str) -> None:
    """The event is there, says why, and the program goes on."""
    obs.configure(root=root, strict=True, redactor=redactor)
    assert obs.emit("t", {"name": "Bob"}, run_id="r1")
    assert obs.emit(obs.events.RunStarted(name="Bob"))
    obs.shutdown()
    assert payloads(root, "t") == [{"redacted": reason}]
    assert payloads(root, "run_started") == [{"redacted": reason}]
    assert json.loads(lines_of(root, "t")[0])["run_id"] == "r1"
    assert not any(b"Bob" in path.read_bytes() for path in root.rglob("*.jsonl"))


def test_of_a_typed_event_the_result_has_to_fit(root: Path) -> None:
    """Else its content is withheld; what fits is recorded."""
    answers = iter([{"name": 7}, {"name": "fits"}])
    obs.configure(root=root, strict=True, redactor=lambda *_: next(answers))
    obs.emit(obs.events.RunStarted(name="Bob"))
    obs.emit(obs.events.RunStarted(name="Bob"))
    obs.shutdown()
    assert payloads(root, "run_started") == [
        {"redacted": "what the redactor returned is no run_started"}, {"name": "fits"}
    ]  # fmt: skip


def test_a_typed_event_fits_its_type_after_the_built_in_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text stays a text, and numbers are left alone."""
    monkeypatch.setattr(schemas, "_by_name", dict(schemas._by_name))

    @obs.event("login")
    class Login(msgspec.Struct):
        password: str
        secret: int

    obs.configure(root=root, strict=True)
    obs.emit(Login("hunter2", 7))
    obs.shutdown()
    (payload,) = payloads(root, "login")
    assert msgspec.convert(payload, Login) == Login("[redacted:password]", 7)


def test_a_redactor_that_emits_does_not_go_on_for_ever(root: Path) -> None:
    """What it emits goes through it as well, a few levels deep."""

    def emits(event_type: str, payload: dict[str, Any]) -> dict[str, Any]:
        obs.emit("inner", payload)
        return payload

    obs.configure(root=root, strict=True, redactor=emits)
    obs.emit("outer", {"n": 1})
    obs.shutdown()
    assert payloads(root, "outer") == [{"n": 1}]
    assert payloads(root, "inner") == [
        {"redacted": "redactor emits events that it is asked to redact"}, {"n": 1}, {"n": 1}
    ]  # fmt: skip


def test_what_cannot_be_called_is_no_redactor(root: Path) -> None:
    """Said at once, not at the first event."""
    with pytest.raises(ConfigError, match=re.escape("redactor 'x' is not a function")):
        obs.configure(root=root, redactor="x")
