"""A table of programs and their options for secrets, where the option's name does not say so.

mysql -phunter2    sshpass -p hunter2    curl -u bob:hunter2    ["redis-cli", "-a", "hunter2"]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from eventlog.record.redaction import values
from eventlog.record.redaction.lazy_patterns import lazily_compiled
from eventlog.record.redaction.view import View

Span = tuple[int, int, bytes]


class Option(NamedTuple):
    """A row of the table: programs, an option, a command line with a secret, and one without."""

    programs: str
    flag: str
    example: str
    innocent: str
    #: The value may follow the option directly (`-pVALUE`), or after a space or `=`.
    attached: bool = False
    apart: bool = True
    #: The value is `user:password`, of which the password is redacted.
    pair: bool = False


OPTIONS = (
    Option(
        "mysql|mysqldump|mysqladmin|mysqlimport|mariadb|mariadb-dump|mycli",
        "-p",
        "mysql -u root -phunter2abc db",
        "mysql -p db",
        attached=True,
        apart=False,
    ),
    Option("sshpass", "-p", "sshpass -p hunter2 ssh a", "sshpass -f file", attached=True),
    Option(
        "docker|podman|helm|oc|az|skopeo|buildah|cf|nerdctl|crane|oras",
        "-p",
        "docker login -u a -p hunter2abc r",
        "docker run -p 8080:80 x",
    ),
    Option(
        "mongo|mongosh|mongodump|mongorestore|mongoexport|mongoimport|cqlsh|influx|clickhouse-client|expect|rabbitmqadmin"
        "|jfrog|nats|smbclient|vncviewer|xfreerdp|k6|kinit|svn",
        "-p",
        "mongosh -u a -p hunter2abc",
        "mongod -p 27017",
    ),
    Option(
        "sqlcmd|bcp|osql|isql|tsql|mosquitto_pub|mosquitto_sub|ipmitool|zip|unzip|isql-v1",
        "-P",
        "sqlcmd -S h -U sa -P hunter2abc",
        "scp -P 2222 a b",
    ),
    Option("redis-cli|redis-benchmark|keydb-cli|valkey-cli", "-a", "redis-cli -h h -a hunter2abc ping", "ls -a"),
    Option(
        "ldapsearch|ldapmodify|ldapadd|ldapwhoami|ldappasswd|ldapdelete",
        "-w",
        "ldapsearch -D cn=a -w hunter2abc",
        "wc -w file1",
    ),
    Option("7z|7za|unrar|rar|unar", "-p", "7z x -phunter2abc a.7z", "7z x a.7z", attached=True),
    Option("openssl", "-k", "openssl enc -aes-256-cbc -k hunter2abc", "openssl rand -hex 16"),
    Option(
        "net|cmdkey|schtasks|wmic|psexec", "/pass:", "cmdkey /add:h /user:a /pass:hunter2abc", "net use", attached=True
    ),
    Option(
        "curl|wget|http|https|httpie|xh|ab|hey|wrk|lftp|ncftp|elasticdump|aria2c|mosquitto_pub|siege|oha",
        "-u",
        "curl -u admin:hunter2abc https://h",
        "docker run -u 1000:1000 x",
        pair=True,
        attached=True,
    ),
    Option(
        "curl|wget|xh|http|https|smbclient",
        "--user",
        "curl --user admin:hunter2abc https://h",
        "docker run --user 1000:1000",
        pair=True,
    ),
    Option("curl", "--proxy-user", "curl --proxy-user admin:hunter2abc https://h", "curl --proxy h:8080", pair=True),
    Option("curl", "-U", "curl -U admin:hunter2abc https://h", "psql -U admin", pair=True),
    Option("http|https|httpie|xh|ab", "-a", "http -a admin:hunter2abc https://h", "ls -a", pair=True),
    Option("http|https|httpie|xh|ab", "--auth", "http --auth admin:hunter2abc https://h", "ls -a", pair=True),
    Option("ab", "-A", "ab -A admin:hunter2abc https://h", "ls -A", pair=True),
)

_SEPARATOR = rb"(?:[ \t]{1,8}+|=|\x01{0,16}+[\"'],[ \t\r\n\x01]{0,40}+(?=[\"']))"
_FLAG = lazily_compiled(
    rb"(?<=[ \t\n\"'\[,])(?P<flag>-[puPUaAwk]|--user|--proxy-user|--auth|/pass:)"
    rb"(?P<separator>%b)?(?P<quote>\x01{0,16}+[\"'])?(?P<value>(?:[^\s\"'`\x01]|\x01++(?=[^\s\"'`\x01]))++)"
    % _SEPARATOR
)
_PASS = lazily_compiled(rb"(?<![a-z])pass:((?:[^\s\"'`\x01:/\[]|\x01++(?=[^\s\"'`\x01])){3,200}+)")
_LINE_MAX = 200


def _rows() -> dict[bytes, list[tuple[re.Pattern[bytes], Option]]]:
    rows: dict[bytes, list[tuple[re.Pattern[bytes], Option]]] = {}
    for option in OPTIONS:
        programs = lazily_compiled(rb"(?<![A-Za-z0-9_.-])(?:%b)(?:\.exe)?(?=[\x01\s\"',])" % option.programs.encode())
        rows.setdefault(option.flag.encode(), []).append((programs, option))
    return rows


_ROWS = _rows()
#: By option: matches any program that has it.
_PROGRAMS = {
    flag: lazily_compiled(b"|".join(option.programs.encode() for _, option in rows)) for flag, rows in _ROWS.items()
}


def spans(view: View) -> Iterator[Span]:
    """Yield the spans of passwords on command lines."""
    done = 0
    for match in _FLAG.finditer(view.text):
        if match.start() < done:
            continue
        option = _option(view, match)
        if option is None:
            continue
        start, end = match.span("value")
        if option.pair:
            name, colon, _ = match["value"].partition(b":")
            start += len(name) + 1
            if not colon or not name:
                continue
        value = view.text[start:end]
        if _is_password(value, option):
            done = end
            yield start, end, b"password"
    if b"openssl" in view.lower:
        for match in _PASS.finditer(view.text):
            if not values.is_placeholder(match[1]):
                yield *match.span(1), b"password"


def _option(view: View, match: re.Match[bytes]) -> Option | None:
    line = view.text[max(0, match.start() - _LINE_MAX) : match.start()].rpartition(b"\n")[2]
    if not _PROGRAMS[match["flag"]].search(line):
        return None
    for programs, option in _ROWS[match["flag"]]:
        if (option.attached if match["separator"] is None else option.apart) and programs.search(line):
            return option
    return None


def _is_password(value: bytes, option: Option) -> bool:
    if len(value) < 3 or value.startswith((b"-", b"$", b"<", b"{", b"[")) or values.is_placeholder(value):
        return False
    if values.is_marked(value):
        return False
    if option.pair:
        return not value.isdigit()
    return re.fullmatch(rb"[0-9.]*:?[0-9]+(?:[:/][0-9a-z]+)*", value) is None and not values.is_path(value)
