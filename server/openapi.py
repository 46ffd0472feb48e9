"""The OpenAPI document of what can be asked and sent: made from the endpoints and from the structs of their answers."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.queries.runs.difference import Difference
from eventlog.queries.runs.lookup import Run, Session
from eventlog.server.answers import ANSWERS
from eventlog.server.endpoints import ENDPOINTS, Endpoint, SqlQuestion
from eventlog.server.ingest import SentEvent, Verdicts
from eventlog.server.parameters import Parameter
from eventlog.server.problems import PROBLEM_TYPE, ProblemBody
from eventlog.version import __version__

_REF = "#/components/schemas/{name}"
#: What may become of any question.
_PROBLEMS = {
    "400": "A parameter cannot be used (`bad_parameter`), or the query cannot be asked (`bad_query`).",
    "401": "There is no key, or it is not known (`unauthorized`).",
    "403": "The key may not do that (`missing_scope`, `foreign_workspace`, `whole_root`).",
    "404": "There is nothing of that name (`not_found`).",
    "422": "The answer would be too large (`answer_too_large`).",
    "500": "A fault of ours (`internal_error`).",
    "503": "It would succeed later (`too_many_questions`, `index_busy`, `no_index`, `reader_ended`).",
    "504": "It took too long (`timed_out`).",
}
#: What is sent, and what is answered to it.
_SENT = (SentEvent, Verdicts)
#: Fields of a Difference.
_RUN_OR_SESSION = ("a", "b")
_SQL_TYPES = ("application/json", "application/x-ndjson", "text/csv", "application/vnd.apache.parquet")


def document() -> bytes:
    """Return the document as JSON."""
    types = {endpoint.name: [_tellable(each) for each in ANSWERS[endpoint.name].types] for endpoint in ENDPOINTS}
    every = [
        *(each for of_one in types.values() for each in of_one),
        Run,
        Session,
        ProblemBody,
        *map(_tellable, _SENT),
        SqlQuestion,
    ]
    schemas, components = msgspec.json.schema_components(every, ref_template=_REF)
    for name in _RUN_OR_SESSION:
        components["Difference"]["properties"][name] = {
            "anyOf": [{"$ref": _REF.format(name="Run")}, {"$ref": _REF.format(name="Session")}]
        }
    left = iter(schemas)
    paths = {}
    for endpoint in ENDPOINTS:
        of_one = [next(left) for _ in types[endpoint.name]]
        paths[endpoint.path] = {"get": _operation(endpoint, of_one[0] if len(of_one) == 1 else {"anyOf": of_one})}
    paths["/v1/events"]["post"] = _sending()
    paths["/v1/sql"] = {"post": _sql_operation(schemas[-1])}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "eventlog",
                "version": __version__,
                "description": "An event log: what can be asked of it, and how events are sent.",
            },
            "security": [{"key": []}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _tellable(type_: Any) -> Any:
    """Return a type that msgspec makes a schema of: not for one struct or another, nor for raw JSON by default."""
    replaced = {Difference: dict.fromkeys(_RUN_OR_SESSION, Any), SentEvent: {"payload": Any}}.get(type_)
    if replaced is None:
        return type_
    fields: list[Any] = [
        (field.name, replaced.get(field.name, field.type), *(() if field.required else (None,)))
        for field in msgspec.structs.fields(type_)
    ]
    return msgspec.defstruct(
        type_.__name__, fields, namespace={"__doc__": type_.__doc__}, kw_only=True,
        forbid_unknown_fields=type_.__struct_config__.forbid_unknown_fields,
    )  # fmt: skip


def _operation(endpoint: Endpoint, schema: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    if endpoint.name == "event":
        content["application/octet-stream"] = {"schema": {}}
    return {
        "operationId": endpoint.name,
        "summary": endpoint.meaning,
        "parameters": [
            *(_parameter(parameter, "path") for parameter in endpoint.of_path),
            *(_parameter(parameter, "query") for parameter in endpoint.all_parameters),
        ],
        "responses": {
            "200": {"description": "The answer.", "content": content},
            "304": {"description": "It is the one whose tag was sent as If-None-Match."},
            **_problems(),
        },
    }


def _sending() -> dict[str, Any]:
    event, verdicts = ({"$ref": _REF.format(name=type_.__name__)} for type_ in _SENT)
    body = {"anyOf": [event, {"type": "array", "items": event}]}
    answer = {"content": {"application/json": {"schema": verdicts}}}
    return {
        "operationId": "send",
        "summary": "Append events; docs/server.md has more forms of a body.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "At least one was taken.", **answer},
            **_problems("408", "413", "415", "429", "507"),
            "422": {"description": "None was taken.", **answer},
        },
    }


def _sql_operation(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": "sql",
        "summary": "The rows of one SELECT.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {"description": "The rows.", "content": {name: {"schema": {}} for name in _SQL_TYPES}},
            **_problems("408", "413", "415"),
        },
    }


def _problems(*of_bodies: str) -> dict[str, Any]:
    content = {PROBLEM_TYPE: {"schema": {"$ref": _REF.format(name="ProblemBody")}}}
    meanings = _PROBLEMS | dict.fromkeys(
        of_bodies, "Too much, too slow, or in no form that is understood: docs/server.md has the codes."
    )
    return {status: {"description": meaning, "content": content} for status, meaning in meanings.items()}


def _parameter(parameter: Parameter, where: str) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": where,
        "required": where == "path" or parameter.required,
        "description": parameter.meaning,
        "schema": parameter.schema(),
    }
