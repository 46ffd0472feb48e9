"""A table of names of fields, variables, options and headers whose value is a secret.

A name matches at the end of an identifier (`db_password`, `X-Api-Key`, `clientSecret`). Each row has a text that must
be redacted (`example`) and one that must stay (`innocent`); a test runs all rows.
"""

from __future__ import annotations

from typing import NamedTuple


class Name(NamedTuple):
    """A row of the table: a name, and the kind of its secret."""

    kind: bytes
    #: The words before the last one, in lower case, as a regular expression; "" if the last word is enough.
    front: str
    #: The last word, as a regular expression.
    last: str
    example: str
    innocent: str
    #: The name has other meanings, too, so the value has to look like a token.
    looks: bool = False
    #: The name has to be a whole word, not the end of another one.
    alone: bool = False


_KEYS = "access|account|signing|encryption|decryption|master|shared(?:[-_. ]?access)?|auth"
_OTHER_KEYS = (
    "consumer|app|application|subscription|licen[cs]e|hmac|service|storage|session|functions|deploy|webhook|cipher|jwt"
    "|aes|admin|write|ingest|integration|project|security"
)
NAMES = (
    Name(b"password", "", "passw(?:or)?ds?", "DB_PASSWORD=hunter2x", "password: at least 8chars"),
    Name(b"password", "", "passphrase", 'passphrase: "correcthorse"', "passphrase: none"),
    Name(b"password", "", "passcode", "passcode = 'correcthorse'", "passcode: required"),
    Name(b"password", "", "pwd", "Pwd=S3cretPass1;", "PWD=/home/ann1"),
    Name(b"password", "", "pass", "DB_PASS=hunter2x", "compass=north2north", alone=True),
    Name(b"secret", "", "secret", 'client_secret: "correcthorse"', "the secret: be kind"),
    Name(b"secret", "", "secrets", '"secrets": "hunter2abcdef"', '"secrets": "two"', looks=True),
    Name(b"secret", "secret(?:[-_. ]?access)?", "key", "SECRET_KEY=hunter2x", "secret_key = load_key1()"),
    Name(b"api_key", "api", "keys?", "x-api-key: hunter2abc", "api_key = os.environ['KEY1']"),
    Name(b"private_key", "private", "key", '"private_key": "correcthorse"', "private_key = load_key1()"),
    Name(b"secret", _KEYS, "keys?", "AccountKey=Zm9vYmFyYmF6cXV4MTIz;", "access_key = keys[1]"),
    Name(b"secret", _OTHER_KEYS, "key", "x-functions-key: aB3dE5fG7hI9", "session_key: user", looks=True),
    Name(b"private_key", "key", "data", "client-key-data: LS0tLS1CRUdJTi1rZXk5", "key_data: bytes", looks=True),
    Name(b"access_token", "access", "token", '"access_token": "correcthorse"', "access_token: str"),
    Name(b"refresh_token", "refresh", "token", '"refresh_token": "correcthorse"', "refresh_token: str"),
    Name(b"auth_token", "auth", "token", '"auth_token": "correcthorse"', "auth_token = none"),
    Name(b"session_token", "session", "token", '"session_token": "correcthorse"', "session_token = none"),
    Name(b"token", "", "token", "GITHUB_TOKEN=aB3dE5fG7hI9", "next_page_token=CAUQAA12345678", looks=True),
    Name(
        b"credentials", "", "credentials?", '"credentials": "hunter2abcdef"', "credentials: 'same-origin'", looks=True
    ),
    Name(b"credentials", "", "creds", "creds=hunter2abcdef", "creds = creds2.load()", looks=True),
    Name(b"authorization", "", "authorization", '"authorization": "hunter2abc"', '"authorization": "granted"'),
    Name(b"authorization", "", "auth", '"auth": "dXNlcjpodW50ZXIy"', '"auth": "oauth2"', looks=True, alone=True),
    Name(b"cookie", "", "cookies?", '"Cookie": "sid=hunter2abcdef"', "Cookie: none"),
    Name(b"otp", "", "t?otp", "otp=123456", "otp: none", alone=True),
    Name(b"otp", "mfa|2fa|one[-_. ]?time|verification", "code", '"mfa_code": "123456"', "mfa_code: str"),
    Name(b"secret", "seed|recovery|backup", "phrase|codes?", 'seed_phrase: "oak fox sun"', "seed_phrase: str"),
)

#: Words before "token" that show that it is no secret: tokens of pages, of texts, and of grammars.
INNOCENT_TOKENS = frozenset(
    b"page next continuation continue cursor sync resume pagination scroll eos bos pad unk mask sep cls special stop"
    b" start end begin prefix suffix image audio video first last prev previous max min num n per count total input"
    b" output cached prompt completion reasoning lookahead current keyword error raw decoded draft cancellation cancel"
    b" cancelled text word syntax string number name identifier operator comment literal parse lex ignore separator"
    b" newline indent dedent ast css html punctuation open close peek expected unexpected design color theme".split()
)
#: The same for identifiers in lower case, in which nothing separates the words.
INNOCENT_ENDS = (b"pagetoken", b"nexttoken", b"continuationtoken", b"cursortoken", b"synctoken")
