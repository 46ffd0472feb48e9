"""The provider of a model by its name: in SQL, for the lines of sources, and in Python, for prices."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.indexer.views.providers import named_provider, provider_of

NAMED = [
    ("claude-opus-4-5-20251101", "anthropic"),
    ("claude-sonnet-4-5[1m]", "anthropic"),
    ("Claude-Opus-5", "anthropic"),
    ("claude-opus-4-5@20251101", "gcp.vertex_ai"),
    ("claude-opus-4-8@default", "gcp.vertex_ai"),
    ("claude-sonnet-4-5@20250929[1m]", "gcp.vertex_ai"),
    ("vertex_ai/claude-opus-4-5@20251101", "gcp.vertex_ai"),
    ("publishers/anthropic/models/claude-opus-4-5", "gcp.vertex_ai"),
    ("us.anthropic.claude-opus-4-5-20251101-v1:0", "aws.bedrock"),
    ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0[1m]", "aws.bedrock"),
    ("global.anthropic.claude-opus-4-5-20251101-v1:0", "aws.bedrock"),
    ("us-gov.anthropic.claude-3-haiku-20240307-v1:0", "aws.bedrock"),
    ("anthropic.claude-opus-4-8", "aws.bedrock"),
    ("us.amazon.nova-pro-v1:0", "aws.bedrock"),
    ("openai.gpt-oss-120b-1:0", "aws.bedrock"),
    ("bedrock/us.anthropic.claude-opus-4-5-20251101-v1:0", "aws.bedrock"),
    ("arn:aws:bedrock:us-east-1:123:inference-profile/us.anthropic.claude-opus-4-5-20251101-v1:0", "aws.bedrock"),
    ("arn:aws-us-gov:bedrock:us-gov-west-1:123:application-inference-profile/abc", "aws.bedrock"),
    ("anthropic/claude-sonnet-4.5", "openrouter"),
    ("anthropic/claude-sonnet-4.5:beta", "openrouter"),
    ("openrouter/anthropic/claude-sonnet-4.5", "openrouter"),
    ("moonshotai/kimi-k2-0905", "openrouter"),
    ("z-ai/glm-4.6", "openrouter"),
    ("anthropic/claude-sonnet-4-5-20250929", "anthropic"),
    ("azure/gpt-4.1", "azure.ai.openai"),
    ("gemini/gemini-2.5-pro", "gcp.gemini"),
    ("gemini-2.5-pro", "gcp.gemini"),
    ("gpt-5", "openai"),
    ("gpt-4.1-mini", "openai"),
    ("ft:gpt-4o-2024-08-06:acme::abc", "openai"),
    ("o3", "openai"),
    ("o4-mini", "openai"),
    ("gpt-oss-120b", None),
    ("kimi-k2-0905-preview", "moonshot_ai"),
    ("deepseek-chat", "deepseek"),
    ("deepseek-r1:14b", "ollama"),
    ("MiniMax-M2", "minimax"),
    ("glm-4.6", "zai"),
    ("grok-code-fast-1", "x_ai"),
    ("mistral-large-2512", "mistral_ai"),
    ("Qwen/Qwen3-Coder-30B-A3B-Instruct", None),
    ("qwen3-coder", None),
    ("kiln-private-1", None),
    ("/srv/models/qwen.gguf", None),
    ("o200k", None),
    ("", None),
]


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def _by_sql(connection: duckdb.DuckDBPyConnection, model: str | None, message_id: str | None = None) -> object:
    statement = f"SELECT {provider_of('model', 'id')} FROM (SELECT ?::VARCHAR AS model, ?::VARCHAR AS id)"
    return connection.execute(statement, [model, message_id]).fetchall()[0][0]


@pytest.mark.parametrize(("model", "provider"), NAMED)
def test_a_name_says_its_provider(connection: duckdb.DuckDBPyConnection, model: str, provider: str | None) -> None:
    """The same model has a name of its own with each seller; a name that anybody may use says nobody."""
    assert (named_provider(model), _by_sql(connection, model)) == (provider, provider)


@pytest.mark.parametrize(
    ("model", "message_id", "provider"),
    [
        ("claude-opus-4-5-20251101", "msg_bdrk_015pNYi6bWStpDG95pKQepuH", "aws.bedrock"),
        ("claude-opus-4-5-20251101", "msg_vrtx_0154abc", "gcp.vertex_ai"),
        ("claude-opus-4-5-20251101", "msg_0154abc", "anthropic"),
        ("claude-opus-4-5-20251101", None, "anthropic"),
        (None, "msg_0154abc", None),
        (None, None, None),
    ],
)
def test_an_answer_is_marked_by_its_seller(
    connection: duckdb.DuckDBPyConnection, model: str | None, message_id: str | None, provider: str | None
) -> None:
    """Bedrock and Vertex call a model as Anthropic does, and mark the id of the message."""
    assert _by_sql(connection, model, message_id) == provider


_PIECES = st.sampled_from(
    [
        "claude",
        "us.",
        "anthropic",
        "gpt",
        "kimi",
        "o3",
        "-",
        ".",
        "/",
        ":",
        "@",
        "[1m]",
        "arn:aws:",
        "\n",
        "K",
        "Ä",
        "4",
    ]
)


@given(model=st.lists(_PIECES, max_size=6).map("".join) | st.text(max_size=12))
def test_sql_and_python_agree(connection: duckdb.DuckDBPyConnection, model: str) -> None:
    """One table of expressions, read by two engines."""
    assert _by_sql(connection, model) == named_provider(model)
