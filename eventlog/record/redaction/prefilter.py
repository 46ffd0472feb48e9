"""The prefilter of redaction: may a payload hold a secret? Nearly all hold none, and every event pays for this check.

Each search is for one byte that every secret of a kind has in it or beside it: the regular expression engine finds a
byte in a tight loop, and a set of bytes far more slowly. For rare bytes `in` is tried first, which is even faster.
The bytes around it then rule out nearly everything that is no secret. A secret that the prefilter misses is not
redacted, so the tests run all tables through it.
"""

from __future__ import annotations

import re

from eventlog.record.redaction.lazy_patterns import lazily_compiled
from eventlog.record.redaction.tokens import TOKENS

#: The last four letters of the names in `names.NAMES`, and of some in queries and pairs of fields; `.` is any letter.
_ENDS = (
    "word", "ords", "sswd", "swds", ".pwd", "pass", "rase", "code", "odes", "cret", "rets", ".key",
    "keys", "oken", "tion", "auth", "ials", "reds", "okie", "kies", ".otp", "data", "base", "alue",
    "ture", ".sig", "cket", ".kty", "ord#", "rd_#", "rd-#", "ken#", "key#", "ret#",
)  # fmt: skip


def _letter(letter: str) -> bytes:
    return b"0-9" if letter == "#" else re.escape(letter + letter.upper() if letter.isalpha() else letter).encode()


#: The sets of the third to last, second to last and last bytes: they rule out most names at once.
_BYTES = [b"".join(_letter(letter) for letter in sorted({end[at] for end in _ENDS})) for at in (-3, -2, -1)]


def _four() -> bytes:
    """Return an expression for all ends, grouped by their first byte."""
    by_pair: dict[str, list[str]] = {}
    for end in _ENDS:
        by_pair.setdefault(end[0], []).append(end[1:])
    return b"|".join(
        (b"." if first == "." else b"[%b]" % _letter(first))
        + b"(?:%b)" % b"|".join(b"".join(b"[%b]" % _letter(letter) for letter in rest) for rest in rests)
        for first, rests in by_pair.items()
    )


_FOUR = _four()


def _pairs() -> bytes:
    """Return an expression for the last two bytes of all ends, grouped by the last one."""
    by_last: dict[str, set[str]] = {}
    for end in _ENDS:
        by_last.setdefault(end[-1], set()).add(end[-2])
    return b"|".join(
        b"[%b][%b]" % (b"".join(map(_letter, sorted(before))), _letter(last)) for last, before in by_last.items()
    )


def _behind(gap: bytes, *, exactly: bool = False) -> bytes:
    """Return a look-behind, across `gap`, for the end of a name that a secret could have.

    With `exactly` it checks four bytes, for positions where names of all kinds occur; elsewhere three bytes rule out
    enough. Of the many names that end in "tion" (question, description, action), only those like "authorization" count.
    """
    three = rb"(?<=[%b][%b][%b]%b)" % (*_BYTES, gap)
    if not exactly:
        return three
    tion = rb"(?:(?<![iI][oO][nN]%b)|(?<=[zZ][aA][tT][iI][oO][nN]%b))" % (gap, gap)
    return three + rb"(?<=(?:%b)%b)(?<=(?:%b)%b)" % (_pairs(), gap, _FOUR, gap) + tion


def _behind_token(last: str, gap: bytes = b"") -> bytes:
    """Return a look-behind for the prefixes of tokens that end in `last`, grouped by the byte before it."""
    by_byte: dict[str, list[str]] = {}
    for prefix in sorted({token.prefix for token in TOKENS if token.prefix.endswith(last)}):
        by_byte.setdefault(prefix[-2], []).append(prefix)
    return b"|".join(
        rb"(?<=%b%b)(?:%b)"
        % (
            re.escape(byte + last).encode(),
            gap,
            b"|".join(rb"(?<=%b%b)" % (re.escape(prefix).encode(), gap) for prefix in prefixes),
        )
        for byte, prefixes in sorted(by_byte.items())
    )


_LAST_BYTES = "".join(
    sorted({token.prefix[-2] for token in TOKENS if token.prefix[-1] == "-" and not token.prefix.startswith("xox")})
).encode()
_DOT_BYTES = "".join(sorted({token.prefix[-2] for token in TOKENS if token.prefix[-1] == "."})).encode()


def _named(here: bytes, *, exactly: bool) -> bytes:
    """Return a look-behind for a name: bare, in quotes, or in quotes that are escaped once or more often."""
    plain, quoted, escaped = (_behind(gap + here, exactly=exactly) for gap in (b"", b"[\"'`]", b'\\\\"'))
    return rb"(?:(?<=[a-zA-Z0-9]%b)%b|(?<=[\"'`]%b)(?:%b|%b|(?<=\\\\\"%b))|(?<=[\"'` ] %b))" % (
        here, plain, here, quoted, escaped, here, here
    )  # fmt: skip


def _behind_colon(*, exactly: bool) -> bytes:
    """Return an expression for a colon after a name, or before a secret. Most colons separate a field and its value."""
    return (
        rb":(?:\"(?:%b|(?<=[\"' ] :.)|[Bb]earer )|[\[{]%b|54[0-9]{2}:|[^0-9tfn\"\[{]"
        rb"(?:%b|(?<=: )(?:(?i:bearer|basic) |[\"tfn0-9]%b| )|(?<=:/)/[a-z0-9.-]{0,80}?(?:hooks|discord|office|telegram)"
        rb"|(?<=:A)A[A-Za-z0-9_-]{20}|(?<=:[\t\r])|(?<= :=)|(?<=is:.))|[0-9tfn](?<=[a-zA-Z]:.)%b)"
        % (
            _behind(rb"\":\"", exactly=exactly),
            _behind(rb"\":.", exactly=exactly),
            _named(rb":.", exactly=exactly),
            _named(rb": .", exactly=exactly),
            _behind(rb":.", exactly=exactly),
        )
    )


#: Tried on every payload: cheap, and mostly right. The exact expressions check again what they match.
_NAME_BYTES = b"[%b][%b][%b]" % tuple(_BYTES)
_field = re.compile(rb":\"(?:%b|(?<= :\")|[Bb]earer )" % _behind(b'":"', exactly=True)).search
_text = re.compile(rb": (?:(?<=%b: )|(?<=[\"'` ]: )|(?<= is: )|[bB]| )" % _NAME_BYTES).search
_list = re.compile(
    rb"\[\"(?:%b|[A-Za-z_-]{3,40}+\",%b)" % (_behind(b'":\\["', exactly=True), _behind(b'",', exactly=True))
).search
_word = re.compile(rb"word(?: (?:is|was|['\\]|[^ ]{0,40}?[0-9]|[^ ]+\")|:[^\"])").search
_databricks = re.compile(rb"dapi").search  # for four bytes, faster than `in`
_nested = lazily_compiled(rb":(?:[\\=]|(?<=\\:)|(?<=\\\":))")
_single = lazily_compiled(rb"':")
_exact_colon = lazily_compiled(_behind_colon(exactly=True))
_link = lazily_compiled(rb":\\*+/\\*+/[a-z0-9.-]{0,80}?(?:hooks|discord|office|telegram)")
_equals = lazily_compiled(
    rb"=(?:(?<=[a-zA-Z0-9]=)%b|(?<=[\"'`\] \]]=)(?:%b|%b|(?<=   =)|(?<=[\"'][\] ]=)|(?<=[\"']\] =)|(?<=\\[\"']=)))"
    % (_behind(b"=", exactly=True), _behind(b".=", exactly=True), _behind(b"..=", exactly=True))
)
_underscore = re.compile(rb"_[a-z]*+[A-Z0-9]").search
_after_underscore = lazily_compiled(rb"_(?=[a-z]*+[A-Z0-9])(?:%b)" % _behind_token("_"))
_OPTION = rb"-[A-Za-z_.-]{0,40}?(?i:pass|pwd|token|secret|key|auth|cred|cookie|otp|code|user|phrase)"
_hyphen = re.compile(
    rb"-(?:-(?<=[ \"',-]--)|[puPUaAwkS](?<=[ \"',]-.)|[A-Z](?<=[ \"']-.)|[aA](?<=[xX]-.)|[kK](?<=[iI]-.)|U(?<=Y-.)"
    rb"|[A-Za-z0-9_-]{10}(?:(?<=[%b]-.{10})|(?<=ox[a-z]-.{10})))" % _LAST_BYTES
).search
_exact_hyphen = lazily_compiled(
    rb"-(?:-(?:(?<=[ \"',]--)%b|(?<=---)-{0,2} ?BEGIN |(?<=---) BEGIN )"
    rb"|[puPUaAwkS](?<=[ \"',]-.)(?:[^a-z]|$)|[pu](?<=[ \"',]-.)[^- ]"
    rb"|[A-Z](?<=[ \"']-.)[A-Za-z]{0,20}?(?i:pass|token|secret|key|pwd|cred|code|aspl)|[A-Za-z0-9_-]{10}(?:%b)"
    rb"|[aA](?<=[xX]-.)(?i:pi-key|uth-)|U(?<=Y-.)ser-Key|[kK](?<=[iI]-.)(?i:ey)\\?[\"'])"
    % (_OPTION[1:], _behind_token("-", b".{10}"))
)
_of_a = lazily_compiled(
    rb"A(?:KI|SI|BI|CC|Iz|KC|BS|QV|TA|TC|TB|TT|GE-S|A(?:(?<=EAA)|(?<=[0-9]:AA))|I(?<=LTAI)|K(?<=EZAK))"
)
_of_j = lazily_compiled(rb"J(?<=[yd]J)(?:(?<=eyJ)|(?<=CRUdJ))")
_scheme = lazily_compiled(rb"B(?:(?i:earer|asic)[ =\\%]|OT|ot )")
_dot = re.compile(
    rb"\.[A-Za-z0-9_-](?:(?<=[%b]..)(?:%b)|(?<=\.a)tlasv1\.|[A-Za-z0-9_-]{5}\.[A-Za-z0-9_-]{20}|[0-9a-f]{63})"
    % (_DOT_BYTES, _behind_token(".", b"."))
).search
_percent = lazily_compiled(rb"%(?:25)*(?:3[aAdD]|2[0267]|40)")
_element = lazily_compiled(rb">(?:%b)" % _behind(b">", exactly=True))
_slash = lazily_compiled(rb"/(?:(?<=1/)/0|pass:)")
_quote = lazily_compiled(
    rb"'(?:[\],)](?:%b|%b)|[^,)\]](?:%b|%b|(?<=[yY] '.)|(?<=ring '.)))"
    % (
        _behind(b"'.", exactly=True),
        _behind(b"'.", exactly=True),
        _behind(b" '.", exactly=True),
        _behind(b"\\('.", exactly=True),
    )
)
_escaped = lazily_compiled(
    rb"\\\\*+\"(?:[\],\\ ](?:%b|%b|%b)|[^,\\ ](?:%b|%b|%b|(?<=[yYg] \\\".)|(?<=[yYg] \\\\\\\".)))"
    % (
        _behind(b'\\\\".'),
        _behind(b'\\\\\\\\\\\\".'),
        _behind(b'\\(\\\\".'),
        _behind(b' \\\\".'),
        _behind(b'\\(\\\\".'),
        _behind(b'\\(\\\\\\\\\\\\".'),
    )
)
_entity = lazily_compiled(rb"&gt;(?:%b)" % _behind(b"&gt;", exactly=True))
_twilio = lazily_compiled(rb"K(?<=SK)[0-9a-f]{8}")
#: `=`, `<`, `&` and others, as escaped by programs that put JSON into HTML.
_code = lazily_compiled(rb"\\u00(?:2[0267]|3[acdeACDE]|40)")
_hash = lazily_compiled(rb"\$(?:[1256y7]|argon2|apr1)")
(
    _AT,
    _EQUALS,
    _UNDERSCORE,
    _HYPHEN,
    _A,
    _B,
    _J,
    _PERCENT,
    _GREATER,
    _DOT,
    _SINGLE,
    _BACK,
    _SLASH,
    _AND,
    _K,
    _DOLLAR,
    _TILDE,
    _TAB,
    _RETURN,
    _BRACKET,
    _W,
) = b"@=_-ABJ%>.'\\/&K$~\t\r[w"
#: Bytes that short payloads rarely have: one pass shows that there is none, faster than a search for each.
_RARE = b"\t\r@~AJB=%>'\\&K$/"
_SHORT_MAX = 150


def may_hold_secrets(payload: bytes) -> bool:
    """Say whether a payload may hold a secret, so that it has to be searched."""
    return bool(
        (
            (
                _field(payload)
                or _text(payload)
                or (_BACK in payload and _nested.search(payload))
                or (_SINGLE in payload and _single.search(payload))
            )
            and _exact_colon.search(payload)
        )
        or (_BRACKET in payload and _list(payload))
        or (_W in payload and _word(payload))
        or (_UNDERSCORE in payload and _underscore(payload) and _after_underscore.search(payload))
        or (_HYPHEN in payload and _hyphen(payload) and _exact_hyphen.search(payload))
        or (_DOT in payload and _dot(payload))
        or _databricks(payload)
        or (
            (len(payload) > _SHORT_MAX or len(payload.translate(None, _RARE)) < len(payload))
            and (
                _TAB in payload
                or _RETURN in payload
                or _AT in payload
                or _TILDE in payload
                or (_A in payload and _of_a.search(payload))
                or (_J in payload and _of_j.search(payload))
                or (_B in payload and _scheme.search(payload))
                or (_EQUALS in payload and _equals.search(payload))
                or (_PERCENT in payload and _percent.search(payload))
                or (_GREATER in payload and _element.search(payload))
                or (_SINGLE in payload and _quote.search(payload))
                or (_BACK in payload and (_escaped.search(payload) or _code.search(payload)))
                or (_AND in payload and _entity.search(payload))
                or (_K in payload and _twilio.search(payload))
                or (_DOLLAR in payload and _hash.search(payload))
                or (_SLASH in payload and (_slash.search(payload) or _link.search(payload)))
            )
        )
    )
