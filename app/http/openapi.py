"""The part of the OpenAPI document that depends on the model: the paths that `app.http.endpoint` answers, and the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.http.error_answers import MEDIA_TYPE
from app.scoring.served_model import ServedModel

Json = dict[str, Any]

PROBLEM: Json = {
    "type": "object",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"message": {"type": "string"}, "row": {"type": "integer"}, "field": {"type": "string"}},
            },
        },
    },
}
COUNTS: Json = {"type": "object", "additionalProperties": {"type": "integer"}}
UNKNOWN: Json = {**COUNTS, "description": "Rows that carry a field the model does not have"}
PREDICT_RESPONSE: Json = {
    "type": "object",
    "required": ["predictions", "model_version"],
    "properties": {
        "predictions": {"type": "array", "items": {"type": "number"}, "description": "Click probability of each row"},
        "model_version": {"type": "string"},
        "missing": {**COUNTS, "description": "Rows without a value, by field"},
        "unseen": {**COUNTS, "description": "Values never seen in training, by field"},
        "unknown_fields": UNKNOWN,
    },
}
PLACES: Json = {"type": "array", "items": {"type": "integer"}}
RANK_RESPONSE: Json = {
    "type": "object",
    "required": ["indices", "probabilities", "model_version"],
    "properties": {
        "indices": {**PLACES, "description": "Places of the candidates in the request, best first"},
        "probabilities": {
            "type": "array",
            "items": {"type": "number"},
            "description": "Click probability of each of them",
        },
        "model_version": {"type": "string"},
        "missing": {**COUNTS, "description": "Values that were absent or null, by field"},
        "unseen": {**COUNTS, "description": "Values never seen in training, by field"},
        "not_in_catalog": {
            **PLACES,
            "description": "Places of ids that the catalog does not have; they are not ranked",
        },
        "unknown_fields": UNKNOWN,
    },
}
PROBLEMS = {
    "409": "No catalog",
    "413": "Body too large",
    "415": "Not JSON",
    "422": "Does not fit the schema",
    "503": "No model yet",
}

KEY_PROBLEMS = {"401": "No valid key", "403": "The key does not allow it", "429": "The key's quota is used up"}

PREDICT_TEXT = (
    "Give rows as `instances` or columns as `inputs`; columns are several times quicker for many rows. An absent or null "
    "field is *missing*, a value that training never saw is *unseen*: both have trained weights, and the answer counts them."
)
RANK_TEXT = (
    "One context with many candidates, given by their fields or by their ids in the catalog. Equal to `/predict` on each "
    "whole row, but the context is computed once and the catalog's share is known in advance."
)


def describe_model(document: Json, model: ServedModel | None, *, has_keys: bool) -> Json:
    """Add the model's paths, with its own field names, types and examples, to an OpenAPI document.

    Args:
        document: made by FastAPI from its routes, each of which says which key it asks for.
        model: that is served.
        has_keys: whether keys are asked for at all.
    """
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {"Problem": PROBLEM, "PredictResponse": PREDICT_RESPONSE, "RankResponse": RANK_RESPONSE}
    predict, rank = Json(type="object"), Json(type="object")
    examples: tuple[Json, Json] = ({}, {})
    if model is not None:
        predict, rank = model.predict_wire.json_schema(), model.rank_wire.json_schema()
        examples = (model.predict_wire.example, model.rank_wire.example)
        for schema in (predict, rank):
            schemas.update(schema.pop("$defs", {}))
    paths = {
        "/predict": {
            "post": _operation("predict", "Click probabilities of impressions", PREDICT_TEXT, predict, examples[0])
        },
        "/rank": {"post": _operation("rank", "The best of many candidates", RANK_TEXT, rank, examples[1])},
        "/catalog": {"put": _catalog_operation(examples[1])},
    }
    document["paths"] = {**paths, **document["paths"]}
    schemes = document["components"].get("securitySchemes", {})
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if has_keys and (path in paths or "security" in operation):
                operation["security"] = [{name: []} for name in schemes]
                operation["responses"] |= _problems(KEY_PROBLEMS)
            else:
                operation.pop("security", None)
    if not has_keys:
        document["components"].pop("securitySchemes", None)
    return document


def _operation(name: str, summary: str, text: str, schema: Json, example: Json) -> Json:
    answer = {"$ref": f"#/components/schemas/{name.capitalize()}Response"}
    return {
        "tags": ["score"],
        "summary": summary,
        "description": text,
        "operationId": name,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": {
            "200": {"description": "Scored", "content": {"application/json": {"schema": answer}}},
            **_problems(),
        },
    }


def _catalog_operation(rank_example: Json) -> Json:
    item = (rank_example.get("candidates") or [{}])[0]
    schema = {"type": "object", "properties": {"items": {"type": "object", "additionalProperties": {"type": "object"}}}}
    body = {"application/json": {"schema": schema, "example": {"items": {"first": item}}}}
    return {
        "tags": ["score"],
        "summary": "Replace the candidates that /rank takes by id",
        "operationId": "put_catalog",
        "requestBody": {"required": True, "content": body},
        "responses": {"200": {"description": "How many it holds now"}, **_problems()},
    }


def _problems(problems: Mapping[str, str] = PROBLEMS) -> Json:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": text, "content": content} for status, text in problems.items()}
