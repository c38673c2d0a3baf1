"""The part of the OpenAPI document that depends on the model: the paths that `app.http.endpoint` answers, and the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from app.http.error_answers import MEDIA_TYPE
from app.http.routes import CatalogInfo
from app.scoring.explain import MAX_ROWS
from app.scoring.served_model import ServedModel

Json = dict[str, Any]

REF = "#/components/schemas/{model}"


class Fault(TypedDict, total=False):
    """One fault of a body."""

    message: Required[str]
    row: int
    field: str


class ProblemDetails(TypedDict, total=False):
    """A refusal (RFC 9457)."""

    type: Required[str]
    title: Required[str]
    status: Required[int]
    code: Required[str]
    request_id: str
    detail: str
    errors: list[Fault]


class Counted(TypedDict, total=False):
    """What an answer says of the values that were given."""

    model_version: Required[str]
    missing: Annotated[dict[str, int], Field(description="Values that were absent or null, by field")]
    unseen: Annotated[dict[str, int], Field(description="Values never seen in training, by field")]
    unknown_fields: Annotated[dict[str, int], Field(description="Rows that carry a field the model does not have")]


class PredictResponse(Counted):
    """An answer of ``/predict``."""

    predictions: Annotated[list[float], Field(description="Click probability of each row")]


class RankResponse(Counted):
    """An answer of ``/rank``."""

    indices: Annotated[list[int], Field(description="Places of the candidates in the request, best first")]
    probabilities: Annotated[list[float], Field(description="Click probability of each of them")]
    not_in_catalog: NotRequired[
        Annotated[list[int], Field(description="Places of ids that the catalog does not have; they are not ranked")]
    ]


class Calibrated(TypedDict, total=False):
    """How a logit becomes a probability."""

    method: Required[str]
    slope: float
    intercept: float
    logits: list[float]
    probabilities: list[float]
    negatives_kept: float


class Explanation(TypedDict):
    """Why one probability; ``bias``, all contributions and ``residual`` sum to ``logit``."""

    probability: float
    standard_error: Annotated[
        float | None, Field(description="Of the probability; null for an artifact of an earlier version")
    ]
    interval: Annotated[
        list[float] | None, Field(description="Which holds the true probability nine times in ten, nominally; or null")
    ]
    calibration: Annotated[float, Field(description="Log-odds of the probability less the logit")]
    logit: Annotated[float, Field(description="Of the model, before calibration")]
    bias: Annotated[float, Field(description="The logit where every field contributes nothing")]
    first_order: Annotated[list[float], Field(description="Of each of `fields`")]
    second_order: Annotated[list[float], Field(description="Of each of `pairs`")]
    deep: Annotated[list[float], Field(description="Of each of `fields`, by integrated gradients")]
    residual: Annotated[float, Field(description="What rounding in float32 adds")]
    impressions: Annotated[
        list[int | list[int]],
        Field(description="How often training saw the value of each of `fields`; a list for a sequence"),
    ]
    missing: Annotated[list[str], Field(description="Fields that are absent or null")]
    unseen: Annotated[list[str], Field(description="Fields with a value that shares the row of rare values")]


class ExplainResponse(TypedDict, total=False):
    """An answer of ``/explain``."""

    model_version: Required[str]
    fields: Required[list[str]]
    pairs: Required[Annotated[list[tuple[str, str]], Field(description="Every two fields")]]
    calibration: Required[Calibrated]
    explanations: Required[list[Explanation]]
    unknown_fields: Annotated[dict[str, int], Field(description="Rows that carry a field the model does not have")]


PROBLEMS = {
    "409": "No catalog",
    "413": "Body too large",
    "415": "Not JSON",
    "422": "Does not fit the schema",
    "503": "No model yet",
}

KEY_PROBLEMS = {"401": "No valid key", "403": "The key does not allow it", "429": "The key's quota is used up"}

PREDICT_TEXTS = (
    "Click probabilities of impressions",
    (
        "Give rows as `instances` or columns as `inputs`; columns are several times quicker for many rows. An absent or null "
        "field is *missing*, a value that training never saw is *unseen*: both have trained weights, and the answer counts them."
    ),
)
RANK_TEXTS = (
    "The best of many candidates",
    (
        "One context with many candidates, given by their fields or by their ids in the catalog. Equal to `/predict` on each "
        "whole row, but the context is computed once and the catalog's share is known in advance."
    ),
)
EXPLAIN_TEXTS = (
    "Why the probabilities are what they are",
    (
        f"Takes what `/predict` takes, {MAX_ROWS} rows at most. The logit is a sum: the bias, each field's first order, every "
        "pair of fields' second order, and the deep part, which integrated gradients distribute over the fields. For each value "
        "the answer says how often training saw it. Explanations give way to requests that are scored."
    ),
)
ANSWERS = (ProblemDetails, PredictResponse, RankResponse, ExplainResponse, CatalogInfo)
CATALOG_TEXTS = ("Replace the candidates that /rank takes by id", "Other workers follow within `CTR_POLL_S`.")


def describe_model(document: Json, model: ServedModel | None, *, has_keys: bool) -> Json:
    """Add the model's paths, with its own field names, types and examples, to an OpenAPI document.

    Args:
        document: made by FastAPI from its routes, each of which says which key it asks for.
        model: that is served.
        has_keys: whether keys are asked for at all.
    """
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    mode: Literal["serialization"] = "serialization"
    adapters = [(kind, mode, TypeAdapter(kind)) for kind in ANSWERS]
    schemas |= TypeAdapter.json_schemas(adapters, ref_template=REF)[1]["$defs"]
    predict, rank = Json(type="object"), Json(type="object")
    examples: tuple[Json, Json] = ({}, {})
    if model is not None:
        predict, rank = model.predict_wire.json_schema(), model.rank_wire.json_schema()
        examples = (model.predict_wire.example, model.rank_wire.example)
        for schema in (predict, rank):
            schemas.update(schema.pop("$defs", {}))
    catalog = Json(type="object", properties={"items": {"type": "object", "additionalProperties": {"type": "object"}}})
    item = examples[1].get("candidates", [{}])[0]
    paths: dict[str, Json] = {
        "/predict": {"post": _operation("predict", PREDICT_TEXTS, predict, examples[0], PredictResponse)},
        "/rank": {"post": _operation("rank", RANK_TEXTS, rank, examples[1], RankResponse)},
        "/explain": {"post": _operation("explain", EXPLAIN_TEXTS, predict, examples[0], ExplainResponse)},
        "/catalog": {"put": _operation("put_catalog", CATALOG_TEXTS, catalog, {"items": {"first": item}}, CatalogInfo)},
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


def _operation(name: str, texts: tuple[str, str], schema: Json, example: Json, answer: type) -> Json:
    reference = {"$ref": REF.format(model=answer.__name__)}
    return {
        "tags": ["score"],
        "summary": texts[0],
        "description": texts[1],
        "operationId": name,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": {
            "200": {"description": "Done", "content": {"application/json": {"schema": reference}}},
            **_problems(PROBLEMS),
        },
    }


def _problems(problems: Mapping[str, str]) -> Json:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {status: {"description": text, "content": content} for status, text in problems.items()}
