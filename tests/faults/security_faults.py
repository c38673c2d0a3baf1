"""E: keys, and what somebody without one may try."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import httpx

from tests.faults.matrix import JSON, Arena, fault

GUARDED = {
    "/predict": "predict",
    "/rank": "predict",
    "/model": "predict",
    "/metrics": "metrics",
    "/catalog": "admin",
    "/admin/reload": "admin",
    "/admin/rollback": "admin",
}
PREDICT, ADMIN = "p" * 43, "a" * 43
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
ALLOWED = {
    "/predict": {"POST"},
    "/rank": {"POST"},
    "/catalog": {"PUT"},
    "/model": {"GET"},
    "/metrics": {"GET"},
    "/admin/reload": {"POST"},
    "/admin/rollback": {"POST"},
    "/health/live": {"GET"},
    "/health/ready": {"GET"},
}


def admin() -> str:
    return ADMIN


def keys_of(arena: Arena) -> Path:
    """Write a key file with an all-powerful key and one for predictions."""
    path = arena.directory / "keys"
    path.write_text(
        f"ops admin,predict,metrics {hashlib.sha256(ADMIN.encode()).hexdigest()}\n"
        f"bidder predict {hashlib.sha256(PREDICT.encode()).hexdigest()}\n"
    )
    return path


@fault(
    "E1",
    "no key, a wrong one, nearly the right one, one of another scope, one in the query",
    "401 or 403; no key is in any log line",
)
def keys(arena: Arena) -> None:
    with arena.serve(keys=keys_of(arena)) as server:
        for path in GUARDED:
            method = next(iter(ALLOWED[path]))
            for given in (
                None,
                "",
                "x",
                ADMIN[:-1],
                ADMIN + "a",
                ADMIN.upper(),
                "%00",
                "p\u00e9".encode().decode("latin1"),
            ):
                headers = httpx.Headers([(b"x-api-key", given.encode("latin1"))] if given is not None else [])
                answer = server.client.request(method, path, headers=headers, params={"key": ADMIN, "api_key": ADMIN})
                arena.tally.note(answer.status_code, 401, answer.elapsed.total_seconds())
            if GUARDED[path] != "predict":
                answer = server.client.request(method, path, headers={"x-api-key": PREDICT})
                arena.tally.note(answer.status_code, 403, answer.elapsed.total_seconds())
        good = server.client.post(
            "/predict", content=arena.bodies[0], headers=JSON | {"authorization": f"Bearer {PREDICT}"}
        )
        arena.tally.note(good.status_code, 200, good.elapsed.total_seconds(), arena.answers.is_right(0, good.content))
        text = server.log.read_text()
        assert not any(secret in text for secret in (ADMIN, PREDICT))


@fault("E2", "administration without keys, or from another site's page", "404 without a key file; 403 from a page")
def administration(arena: Arena) -> None:
    with arena.serve() as server:
        for path in ("/admin/reload", "/admin/rollback", "/admin"):
            answer = server.client.post(path, headers={"x-api-key": ADMIN})
            arena.tally.note(answer.status_code, 404, answer.elapsed.total_seconds())
    with arena.serve(keys=keys_of(arena)) as server:
        for path, headers in itertools.product(
            ("/admin/reload", "/admin/rollback"),
            ({"origin": "null"}, {"origin": "https://evil.example"}, {"sec-fetch-site": "same-site"}),
        ):
            answer = server.client.post(path, headers=headers | {"x-api-key": ADMIN})
            arena.tally.note(answer.status_code, 403, answer.elapsed.total_seconds())


@fault("C15", "every method on every path", "404, or 405 with the right `Allow`, except for what is served")
def every_method(arena: Arena) -> None:
    with arena.serve(keys=keys_of(arena), catalog=arena.directory / "catalog.json") as server:
        for path, method in itertools.product((*ALLOWED, "/", "/docs", "/nothing", "/admin", "/.env"), METHODS):
            answer = server.client.request(method, path, headers={"x-api-key": ADMIN})
            seconds = answer.elapsed.total_seconds()
            if path in ALLOWED:
                is_refused = answer.status_code == 405
                assert is_refused == (method not in ALLOWED[path]), (method, path, answer.status_code)
                assert not is_refused or set(answer.headers["allow"].replace(" ", "").split(",")) == ALLOWED[path]
            elif path in ("/", "/docs"):
                assert answer.status_code in (200, 307, 405), (method, path)
            else:
                assert answer.status_code == 404, (method, path)
            arena.tally.note(200 if answer.status_code < 500 else answer.status_code, 200, seconds)


@fault(
    "E4",
    "line breaks, escape sequences and JSON in ids, paths and headers",
    "log lines stay whole and hold nothing that was sent",
)
def log_injection(arena: Arena) -> None:
    marker = "s3cr3t"
    with arena.serve() as server:
        for text in (f'\r\n{{"event": "{marker}"}}', f"\x1b[31m{marker}", f"{marker}\u2028\u0085", f"%s%n{marker}"):
            body = {"instances": [{"user_id": text, marker: text, "price": text}]}
            answer = server.client.post("/predict", json=body)
            arena.tally.note(answer.status_code, 422, answer.elapsed.total_seconds())
            answer = server.client.get("/" + "".join(f"%{b:02x}" for b in text.encode()))
            arena.tally.note(answer.status_code, 404, answer.elapsed.total_seconds())
        lines = server.log.read_text().splitlines()
        assert all(isinstance(json.loads(line), dict) for line in lines)
        assert marker not in "\n".join(lines)
