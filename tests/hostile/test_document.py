"""schemathesis on the OpenAPI document of a small artifact: what it describes is what a real server does.

Its strategies and checks, without its pytest plugin, which does not know this pytest. The check that whatever fits the
document is accepted is left out: some rules, such as columns of one length, are beyond JSON Schema.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.hostile.probing import check_alive
from tests.server import Server

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


OPERATIONS = {
    "/predict": "POST",
    "/rank": "POST",
    "/explain": "POST",
    "/catalog": "PUT",
    "/health/live": "GET",
    "/health/ready": "GET",
    "/model": "GET",
    "/metrics": "GET",
}
WITH_BODY = ("/predict", "/rank", "/explain", "/catalog")


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{server.client.base_url}/openapi.json")


def test_the_document_has_these_operations(document: Any) -> None:
    found = {(op.ok().path, op.ok().method.upper()) for op in document.get_all_operations()}
    assert found == set(OPERATIONS.items())


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        *((path, GenerationMode.POSITIVE) for path in OPERATIONS),
        *((path, GenerationMode.NEGATIVE) for path in WITH_BODY),
    ],
)
def test_an_operation_keeps_to_the_document(server: Server, document: Any, path: str, mode: GenerationMode) -> None:
    operation = document[path][OPERATIONS[path]]
    statuses: set[int] = set()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=25 if path in WITH_BODY else 5, phases=[Phase.explicit, Phase.generate], database=None)
    def check(case: Any) -> None:
        statuses.add(case.call_and_validate(checks=CHECKS).status_code)

    check()
    assert (200 in statuses) == (mode is GenerationMode.POSITIVE)
    check_alive(server, path)
