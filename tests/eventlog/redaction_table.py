"""Payloads with secrets (what it is, the payload, the secret) and without (what it is, the payload). All are made up."""

from __future__ import annotations

import base64
import json
import urllib.parse
from typing import Any

A36 = "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5"
HEX = "8f14e45fceea167a5a36dedd4bea2543"
H = "hunter2abc"
WORD = "correcthorse"
BASIC = base64.b64encode(b"bob:hunter2").decode()
KEY_LINE = "MIIEowIBAAKCAQEA1234567890abcdef"
KEY = f"-----BEGIN RSA PRIVATE KEY-----\n{KEY_LINE}\nQWERTYUIOPASDFGH\n-----END RSA PRIVATE KEY-----\n"

#: Texts, each with its secret.
TEXTS: list[tuple[str, str]] = [
    # variables and settings
    (f"DB_PASSWORD={H}", H), (f"DB_PASSWORD={WORD}\nX=1", WORD), (f"export SECRET_KEY='{WORD}'", WORD),
    (f"set API_KEY={H}", H), (f"[db]\npassword = {H}\n", H), (f"x=1;password={WORD};user=x", WORD),
    (f'password = "{WORD}"', WORD), (f"password: {WORD}\nuser: bob", WORD), (f"  password: '{WORD}'", WORD),
    (f"password: >-\n    {H}", H), (f"password: |\n  {WORD}\n", WORD), (f"spring.datasource.password={H}", H),
    (f"spring.redis.password: {H}", H), (f"secretKeyBase: {HEX}", HEX),
    (f"secret_key_base: {HEX}", HEX), (f"environment:\n  - POSTGRES_PASSWORD={WORD}", WORD),
    (f"environment:\n  MYSQL_ROOT_PASSWORD: {WORD}\n", WORD), (f"stringData:\n  password: {H}", H),
    ("data:\n  password: aHVudGVyMg==", "aHVudGVyMg"), (f"- name: DB_PASSWORD\n  value: {H}", H),
    (f'- name: API_KEY\n  value: "{WORD}"', WORD), (f'variable "db_password" {{\n  default = "{WORD}"\n}}', WORD),
    (f'variable "db_password" {{\n  type = string\n  default = "{WORD}"\n}}', WORD),
    (f"//npm.example/:_authToken={A36}", A36), (f"//r.example/:_password={BASIC}", BASIC), (f"_auth={BASIC}", BASIC),
    (f"[pypi]\nusername = __token__\npassword = {H}", H), (f"machine api.example.com login bob password {WORD}", WORD),
    (f"machine h\n  login bob\n  password {H}\n", H),
    (f"https://bob:{H}@github.com", H), (f"[default]\naws_access_key_id = x\naws_secret_access_key = {A36}/x", A36),
    (f"client-key-data: {base64.b64encode(KEY.encode()).decode()}", "LS0tLS1CRUdJTi"), (f"    token: {A36}", A36),
    (f'connection_string = "Server=x;Uid=sa;Pwd={WORD};"', WORD), (f"host=h user=u password={WORD} dbname=x", WORD),
    (f"Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey={A36}=", A36), (f"jdbc:sqlserver://h;user=sa;password={H};", H),
    (f"mongodb+srv://bob:{H}@c.example.net/?retryWrites=true", H), (f"amqp://bob:{H}@h:5672/%2f", H), (f"redis://default:{H}@h:6379", H),
    (f"ftp://bob:{H}@h/x", H), (f"postgresql+asyncpg://bob:{H}@h/x", H), ("postgres://bob:pa/ss1word@db.example.com/x", "ss1word"),
    ("mysql://bob:p%40ssw0rd@h/x", "ssw0rd"), (f"https://{HEX}@o1.ingest.sentry.io/2", HEX), (f"https:\\/\\/bob:{H}@h\\/x", H),
    # code
    (f"const password = '{WORD}';", WORD), (f'let apiKey: string = "{WORD}";', WORD), (f'api_key: str = "{WORD}"', WORD),
    (f'os.environ["API_KEY"] = "{H}"', H), (f"ENV['SECRET_KEY'] = '{WORD}'", WORD), (f'os.Setenv("API_KEY", "{H}")', H),
    (f"define('DB_PASSWORD', '{H}');", H), (f"'password' => '{WORD}',", WORD), (f":password => '{WORD}'", WORD), (f'Password: "{WORD}",', WORD),
    (f'conn.setPassword("{WORD}");', WORD), (f'builder.password("{WORD}")', WORD), (f"password := \"{WORD}\"", WORD),
    (f'String password = "{WORD}";', WORD), (f"$password = '{WORD}';", WORD), (f"client = Client(api_key='{WORD}')", WORD),
    (f"{{'password': b'{WORD}'}}", WORD), (f"if password == '{H}':", H), (f'private static final String SECRET = "{WORD}";', WORD),
    (f"PASSWORD = '{WORD}'", WORD), (f"CREATE USER bob WITH PASSWORD '{WORD}'", WORD), (f"CREATE USER a IDENTIFIED BY '{WORD}'", WORD),
    (f'ConvertTo-SecureString "{WORD}" -AsPlainText -Force', WORD), (f'static SECRET: &str = "{WORD}";', WORD),
    (f"password = `{WORD}`", WORD), (f"dict(password='{WORD}')", WORD), (f"<password>{WORD}</password>", WORD), (f"<ns:apiKey>{H}</ns:apiKey>", H),
    (f'<add key="DbPassword" value="{WORD}"/>', WORD), (f'<input type="password" name="password" value="{WORD}">', WORD),
    (f'<user name="bob" password="{WORD}"/>', WORD), (f"&lt;password&gt;{H}&lt;/password&gt;", H), (f"password=&quot;{WORD}&quot;", WORD),
    (f'Content-Disposition: form-data; name="password"\r\n\r\n{WORD}\r\n--b', WORD),
    # headers
    (f"Authorization: Bearer {WORD}battery", WORD), (f"authorization: token {HEX}", HEX), (f"Authorization: ApiKey {H}", H),
    (f"Authorization: {H}", H), (f"Proxy-Authorization: Basic {BASIC}", BASIC), (f"X-Api-Key:{H}", H), (f"x-vault-token: {A36}", A36),
    (f"PRIVATE-TOKEN: {A36}", A36), (f"Ocp-Apim-Subscription-Key: {HEX}", HEX), (f"Cookie: sessionid={H}; a=b", H),
    (f"Set-Cookie: sid={H}; Path=/; HttpOnly", H), (f"Authorization: Bot {A36}", A36), (f'Authorization: Token token="{H}"', H),
    (f'Authorization: Digest username="bob", realm="r", response="{HEX}"', HEX), (f"Authorization=Bearer {A36}", A36),
    (f"AWS4-HMAC-SHA256 Credential=x/1/eu/s3/aws4_request, SignedHeaders=host, Signature={HEX * 2}", HEX),
    (f"-H 'Authorization: Bearer {H}0123'", H), (f'curl -H "X-Auth-Token: {A36}"', A36), (f"headers={{'Authorization': f'Bearer {A36}'}}", A36),
    (f"('authorization', 'Bearer {A36}')", A36), (f"(b'authorization', b'{H}x')", H),
    # command lines
    (f"cmd --password {WORD} --x", WORD), (f"cmd --password={WORD}", WORD), (f"cmd --password '{WORD} b'", WORD), (f"cmd --passphrase {H}", H),
    (f"cmd --secret-key={H}", H), (f"cmd --client-secret {H}", H), (f"cmd --auth-token {A36}", A36), (f"cmd --access-token={A36}", A36),
    (f"wget --user=a --password={H} h", H), (f"wget --http-password={H} h", H), (f"curl --user admin:{H} https://h", H), (f"curl -uadmin:{H} https://h", H),
    (f"curl --proxy-user admin:{H} https://h", H), (f"curl -u 'admin:{H}' https://h", H), (f"mysqldump -uroot -p{H} db", H),
    (f"mysql --password={H} db", H), (f"sshpass -p {WORD} ssh h", WORD), (f"sshpass -p'{WORD}' ssh h", WORD), (f"redis-cli -a {WORD} ping", WORD),
    (f"docker login -u bob -p {H} r.example", H), (f"openssl rsa -in k -passin pass:{WORD}", WORD), (f"psql postgres://bob:{H}@h/x", H),
    (f"Connect-X -Password {H}", H), (f"az login --service-principal -u a -p {H}", H), (f"ldapsearch -D cn=a -w {H}", H), (f"echo {H} | sudo -S ls", H),
    (f"echo {H} | docker login -u a --password-stdin", H), (f"sqlcmd -S h -U sa -P {H}", H), (f"mongosh -u a -p {H}", H), (f"docker run -e API_KEY={WORD} x", WORD),
    (f"docker run -e 'DB_PASSWORD={H}' x", H), (f"7z x -p{H} a.7z", H), (f"kubectl create secret generic x --from-literal=password={H}", H),
    (f"helm install x --set auth.password={H}", H), (f"ansible all -e ansible_password={H}", H), (f"vault login token={A36}", A36),
    (f"gpg --batch --passphrase {WORD} -d f", WORD), (f"cmdkey /add:h /user:a /pass:{H}", H),
    # URLs and what is encoded
    (f"https://h/?access_token={A36}&x=1", A36), (f"https://h/?api_key={H}", H), (f"https://h/?x=1&apikey={H}#a", H), (f"https://h/?token={A36}", A36),
    (f"https://s3/x?X-Amz-Credential=x&X-Amz-Signature={HEX * 2}", HEX), (f"https://s3/x?X-Amz-Security-Token={A36 * 2}", A36),
    (f"https://a.blob.core.windows.net/c?sv=2020&sig={A36}%3D", A36), (f"https://h/cb?code=4{A36}&state=x", A36), (f"https://h/?x-goog-signature={HEX}", HEX),
    (f"grant_type=password&username=bob&password={WORD}", WORD), (f"client_id=a&client_secret={WORD}&x=1", WORD),
    (urllib.parse.quote(f"https://h/?api_key={H}&x=1", safe=""), H), (urllib.parse.quote(f'{{"password": "{WORD}"}}', safe=""), WORD),
    (urllib.parse.quote(urllib.parse.quote(f"password={H}", safe=""), safe=""), H), (f"Authorization%3A%20Bearer%20{A36}", A36), (f"x%20--token%20{A36}", A36),
    (urllib.parse.quote(f"https://bob:{H}@h/x", safe=""), H), (f"password%3D{H}%26user%3Dbob", H), (f"https://h/?a=1\\u0026password={H}", H),
    # tokens behind something, and cut by escapes
    (f"see\ndapi{HEX}", HEX), (f"x (dapi{HEX})", HEX), ("whsec_aB3dE5fG7hI9\\/K1lM3nO5pQ7\\/r2S9tU1vW", "r2S9tU1vW"),
    (urllib.parse.quote("whsec_aB3dE5fG7hI9/K1lM3nO5pQ7+r2S9tU1vW", safe=""), "r2S9tU1vW"),
    (f"https:\\/\\/hooks.slack.com\\/services\\/T00000000\\/B00000000\\/{A36}", A36), ("postgres:\\/\\/bob:pa\\/ss1word@db.example.com\\/x", "ss1word"),
    (f'{{"cmd":"DB_PASSWORD\\u003d{H}"}}', H), (f"a\\u0026password\\u003d{H}", H),
    # prose
    (f"My password is {H}", H), (f"the api key is: {A36}", A36), (f"API key: {A36}", A36), (f"Access token: {A36}", A36),
    (f"The password is '{H}'.", H),
    # keys
    (KEY, KEY_LINE), (KEY.replace("\n", "\\n"), KEY_LINE), (KEY.replace("\n", "\r\n"), KEY_LINE), (KEY.replace("\n", " "), KEY_LINE),
    (KEY.replace("RSA", "OPENSSH"), KEY_LINE), (KEY.replace("RSA ", ""), KEY_LINE), (KEY.replace("RSA", "ENCRYPTED"), KEY_LINE),
    (KEY.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"), KEY_LINE), ("".join(f'"{line}\\n"\n' for line in KEY.split("\n")), KEY_LINE),
    ("".join(f"'{line}\\n' +\n" for line in KEY.split("\n")), KEY_LINE), ("".join(f" * {line}\n" for line in KEY.split("\n")), KEY_LINE),
    ("".join(f"// {line}\n" for line in KEY.split("\n")), KEY_LINE), ("".join(f"> > {line}\n" for line in KEY.split("\n")), KEY_LINE), ("".join(f"; {line}\n" for line in KEY.split("\n")), KEY_LINE),
    ("".join(f"| {line}\n" for line in KEY.split("\n")), KEY_LINE), ("".join(f"@@ -1,2 +1,2 @@\n-{line}\n" if not n else f"-{line}\n" for n, line in enumerate(KEY.split("\n"))), KEY_LINE),
    ("".join(f"\t{line}\n" for line in KEY.split("\n")), KEY_LINE), (KEY[:70], KEY_LINE), (str(KEY.split("\n")), KEY_LINE), (repr(KEY), KEY_LINE),
    ("PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\nPrivate-Lines: 1\n" + A36 * 2 + "\nPrivate-MAC: " + HEX, A36),
    (f"ConvertTo-SecureString '{WORD}' -AsPlainText", WORD), (f"mysqldump --password={WORD} db", WORD), (f"[db]\npassword={WORD}\nuser=x", WORD), (f"spring.datasource.password={WORD}", WORD),
    ("PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 2\n" + KEY_LINE + "\nAAAA\nPrivate-MAC: 8f14", KEY_LINE), (f"AGE-SECRET-KEY-1{'QPZRY9X8GF2TVDW0' * 4}", "QPZRY9X8GF2TVDW0"),
    (json.dumps({"kty": "EC", "d": A36 + "z7A9bC1"}), A36),
]  # fmt: skip

_FIELDS = (
    "password", "passwd", "pwd", "pass", "passphrase", "passwords", "secret", "client_secret", "clientSecret", "client-secret", "CLIENT_SECRET",
    "secretAccessKey", "access_key", "accessKey", "signing_key", "private_key", "privateKey", "api_key", "apiKey", "apikey", "x-api-key", "X-Auth-Key",
    "credentials", "refresh_token", "refreshToken", "session_token", "auth_token", "id_token", "bearer_token", "authorization", "Proxy-Authorization",
    "encryption_key", "account_key", "AccountKey", "SharedAccessKey", "db_pass", "dbPassword", "db.password", "user_password", "newPassword", "password2",
    "aws_secret_access_key", "webhook_secret", "jwt_secret", "subscription-key", "csrf_token", "master_key", "passcode", "githubToken",
)  # fmt: skip

SECRET: list[tuple[str, Any, str]] = [
    *((text[:60], {"t": text}, secret) for text, secret in TEXTS),
    *((f"{text[:40]} in JSON in JSON", {"t": json.dumps({"x": text, "y": 1})}, secret) for text, secret in TEXTS),
    *((f"field {name}", {"a": [{name: "hunter2abcdef"}]}, "hunter2abcdef") for name in _FIELDS),
    *((f"field {name} in JSON in JSON", {"t": json.dumps({"u": json.dumps({name: "hunter2abcdef"})})}, "hunter2abcdef") for name in _FIELDS),
    *((f"pair {name}", {"env": [{"name": name, "value": "hunter2abcdef"}]}, "hunter2abcdef") for name in _FIELDS),
    *((f"pair in JSON {name}", {"t": json.dumps([{"key": name, "value": "hunter2abcdef", "enabled": True}])}, "hunter2abcdef") for name in _FIELDS),
    ("pair with another field between", {"env": [{"name": "DB_PASSWORD", "type": "text", "value": "hunter2abcdef"}]}, "hunter2abcdef"),
    ("pair, the value first", {"env": [{"value": "hunter2abcdef", "name": "DB_PASSWORD"}]}, "hunter2abcdef"),
    ("header pair", {"headers": [["x-api-key", "hunter2abcdef"]]}, "hunter2abcdef"),
    ("a single header pair", {"header": ["Authorization", "hunter2abcdef"]}, "hunter2abcdef"),
    ("header pair cookie", {"headers": [["cookie", "sid=hunter2abcdef"]]}, "hunter2abcdef"),
    ("header of several values", {"headers": {"Authorization": ["hunter2abcdef"]}}, "hunter2abcdef"),
    ("a list of passwords", {"passwords": ["hunterabc", "correcthorse"]}, "correcthorse"),
    ("value inside", {"password": {"value": "hunterabc"}}, "hunterabc"),
    ("arguments", {"argv": ["cmd", "--token", "hunter2abcDEF"]}, "hunter2abcDEF"),
    ("arguments, =", {"argv": ["cmd", "--token=hunter2abcDEF"]}, "hunter2abcDEF"),
    ("arguments of curl", {"argv": ["curl", "-u", "admin:hunter2abc", "https://h"]}, "hunter2abc"),
    ("arguments of mysql", {"argv": ["mysql", "-u", "root", "-phunter2abc"]}, "hunter2abc"),
    ("arguments of sshpass", {"argv": ["sshpass", "-p", "hunterabc", "ssh"]}, "hunterabc"),
    ("arguments, a header", {"argv": ["curl", "-H", "Authorization: Bearer hunter2abcdef"]}, "hunter2abcdef"),
    ("environment, a list", {"env": ["PATH=/bin", "API_KEY=hunter2abcdef"]}, "hunter2abcdef"),
    ("docker's auth", {"auths": {"r": {"auth": BASIC}}}, BASIC),
    ("kubeconfig", {"user": {"client-key-data": base64.b64encode(KEY.encode()).decode()}}, "LS0t"),
    ("service account", {"type": "service_account", "private_key": KEY}, KEY_LINE),
    ("a list of lines", {"lines": KEY.split("\n")}, KEY_LINE),
    ("a list of lines with their ends", {"lines": KEY.splitlines(keepends=True)}, KEY_LINE),
    ("a list of lines in JSON in JSON", {"t": json.dumps(KEY.split("\n"))}, KEY_LINE),
    ("one-time password", {"otp": "123456"}, "123456"),
]  # fmt: skip

INNOCENT: list[tuple[str, Any]] = [
    ("innocent argument of code", {"t": "connect(\n    user=user,\n    password=database_password_of_ours\n)"}),
    ("innocent argument, last", {"t": "f(\n  secret=somebodyelse\n)"}), ("innocent word", {"t": "password=password\nuser=x"}),
    *((name, {name: "CAUQAA12345678"}) for name in (
        "next_page_token", "nextPageToken", "page_token", "continuationToken", "continuation_token", "NextToken", "next_token",
        "cursor_token", "sync_token", "start_token", "pad_token", "password_hash", "session_id", "sessionId", "request_id", "token_type",
        "primary_key", "foreign_key", "key", "keys", "monkey", "keyboard", "signature", "author", "secret_name", "password_reset_at",
    )),
    *((text[:60], {"t": text}) for text in (
        "max_tokens: 4096, input_tokens: 5, tokens=12345678", "token_usage: 12345678", "password=self.password1", "password: str", "password: string;",
        "password = get_password()", "password = getpass.getpass()", "apiKey: process.env.API_KEY1", "api_key=os.environ['KEY1']", "api_key = os.getenv(\"KEY1\")",
        "password: ${DB_PASSWORD1}", "password=$DB_PASSWORD1", "password: {{ db_password1 }}", "password=%(password1)s", "token: ${{ secrets.GITHUB_TOKEN1 }}",
        "password: <your-password1>", "api_key: YOUR_API_KEY_1", "password: ********", "token=self.token1", "def f(token: str = None, key: bytes32 = b'')",
        "Bearer authentication-required-2024-abc", "Basic usage of the library", "the bearer of bad news", "Bearer tokens are sent", "The token is expired",
        "The password is too short", "the secret is that python3 is fine", "the secret of success is to begin", "keyboard: qwerty123", "monkey=banana123", "author: hunter2abc",
        "primary_key=user_id1", "foreign_key = 'order_id1'", "key='name1'", "sort(key=lambda x1: x1)", "if token == TOKEN_1:", "token = tokens[12]", "token = tokenizer2.next()",
        "password != other.password1", "password = config.get('x1')", "secret = hashlib.sha256(x)", "password_field1 = TextInput()", 'type="password" name="x"', "passwordInput1 = x",
        "--password TEXT  The password to use.", "--token TOKEN", "use --password to set it", "docker run -p 8080:80 -u 1000:1000 x", "mkdir -p a/b1", "cp -u a:b1 c", "ls -a dir1",
        "git@github.com:a/b.git", "https://example.com:8080/a@b?c=d", "http://localhost:3000/@vite/client", "npm install @scope/pkg@1.2.3", "https://h/@user/post1", "redis://localhost:6379/0",
        "https://user@example.com/x", "sha512-" + "aB3dE5fG7hI9jK1l" * 5 + "==", "integrity sha1-aB3dE5fG7hI9jK1lM3nO5pQ7rS9=", "commit 8f14e45fceea167a5a36dedd4bea254312345678", "01a1fc0e-90e7-7614-b5c5-39cd6cbb2847",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ bob@h", "-----BEGIN CERTIFICATE-----\n" + KEY_LINE + "\n-----END CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----\n" + KEY_LINE + "\n-----END PUBLIC KEY-----",
        "if '-----BEGIN PRIVATE KEY-----' in text: return True", "toolu_01A09q90qw90lq917835lq9 msg_01XFDUDYJgAACzvnptvVoYEL call_aB3dE5fG7hI9jK1lM3nO5pQ7", "claude-sonnet-4-5-20250929 gpt-4o-mini-2024-07-18",
        "sk-learn-contrib-imbalanced-learn-0.12", "task-risk-desk-based-2024-x1", "pypi-attestations-0.0.12-py3-none-any", "npm_config_cache1", "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "hf_hub_download2",
        'placeholder="Enter your password"', '"password": "Enter your password"', "label: 'Password'", "i18n: { password: 'Your password:' }", "token: 12345678 of 3", "PWD=/home/ann1", "OLDPWD=/srv/app2",
        ".token-string1 { color: red }", "background: url(data:image/png;base64,iVBORw0KGgo1)", "SELECT token, password FROM users1", "PRIMARY KEY (id1)", "auth: none1", "auth=oauth2", "credentials: 'same-origin'",
        "fetch(u, {credentials: 'include'})", "cookie: see chapter 12", "document.cookie = name1", "cookies = SimpleCookie()", "secrets: inherit", "secretName: app-tls-2", "secretKeyRef:\n  name: app1", "password-stdin",
        "token.type == 'NAME1'", "Token(NAME1, 'x')", "passes: 3", "compass: north2north", "pass 12345678", "passed=12345678", "api_key=None, token=None", "Authorization: see RFC 7235", "authorization: granted",
    )),
    ("numbers", {"password": 12345678, "token": 5, "secret": None, "api_key": True}),
    ("lists and objects", {"token": ["a", "b"], "secret": {"x": 1}}),
    ("columns", {"columns": ["id1", "user", "password", "email2", "token", "created_at1"]}),
    ("a schema", {"properties": {"password": {"type": "string", "description": "at least 8"}}}),
    ("authorization granted", {"authorization": "granted"}),
]  # fmt: skip
