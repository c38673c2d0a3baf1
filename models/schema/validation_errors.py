"""What is wrong with a file that a Pydantic model refuses, in one line."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError


def describe_validation_error(error: ValidationError, document: object = None) -> str:
    """Return the first error of a pydantic validation in one line, without the input.

    Args:
        error: the first of its faults is described.
        document: what was validated: an entry of a list that has a name is called by it, not by its place.

    >>> from models.schema.feature_schema import FeatureSchema
    >>> document = {"label": "click", "field": [{"name": "hour", "kind": "number"}]}
    >>> try:
    ...     FeatureSchema.model_validate(document)
    ... except ValidationError as error:
    ...     print(describe_validation_error(error, document))
    field 'hour': kind: Input should be 'categorical', 'numeric' or 'sequence'
    """
    first = error.errors(include_input=False, include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    if first["type"] == "extra_forbidden":
        message = "there is no such key"
    return ": ".join([*_places(first["loc"], document), message])


def _places(loc: tuple[int | str, ...], document: object) -> Iterator[str]:
    # Where an error is: keys, joined by dots, and entries of lists, by their names where they have one.
    keys: list[str] = []
    for part in loc:
        document = document.get(part) if isinstance(document, dict) else _entry(document, part)
        name = document.get("name") if isinstance(document, dict) and isinstance(part, int) else None
        if isinstance(name, str):
            keys[-1:] = [f"{keys[-1]} {name!r}"] if keys else [repr(name)]
            yield ".".join(keys)
            keys = []
        else:
            keys.append(str(part + 1) if isinstance(part, int) else part)
    if keys:
        yield ".".join(keys)


def _entry(document: object, place: int | str) -> object:
    return document[place] if isinstance(document, list) and isinstance(place, int) and place < len(document) else None
