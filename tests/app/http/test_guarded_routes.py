"""Nobody in without a key: every route, every method, every spelling of its path, on a real server."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from app.http import admin_routes, docs, open_inference, routes
from app.http.guarded_routes import PUBLIC, authorize, check_declared
from tests.hostile.probing import send_raw
from tests.making import make_artifact
from tests.server import Server, serving

ROW = {"user_id": 7, "ad_id": "ad3", "price": 1.5}
SECRETS = {"bidder": "b" * 43, "slow": "s" * 43, "watcher": "w" * 43, "ops": "o" * 43, "all": "a" * 43}
SCOPES = {"bidder": "predict", "slow": "predict", "watcher": "metrics", "ops": "admin", "all": "predict,metrics,admin"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def key_lines(*left_out: str) -> str:
    digests = {name: hashlib.sha256(secret.encode()).hexdigest() for name, secret in SECRETS.items()}
    rates = {"slow": "5"}
    names = [name for name in SECRETS if name not in left_out]
    return "\n".join(f"{name} {SCOPES[name]} {digests[name]} {rates.get(name, '')}" for name in names)


def declared() -> dict[str, str]:
    """Return the scope that each guarded path declares."""
    found = {"/predict": "predict", "/rank": "predict", "/explain": "predict"}
    for router in (routes.router, routes.metrics_router, admin_routes.router, docs.router, open_inference.router):
        for route in router.routes:
            assert isinstance(route, APIRoute)
            if route.dependencies[0].dependency is authorize:
                (scope,) = route.dependencies[0].scopes  # type: ignore[attr-defined]
                name = "ctrserve" if route.path.startswith("/v2") else "swagger-ui.css"
                found[route.path.replace("{name}", name).replace("{version}", "v1")] = scope
    return found


GUARDED = declared()
SPELT = [path for path in GUARDED if not path.startswith("/v2") or path.endswith("/versions/v1/infer")]
"""Those of which all spellings are tried; one stands for the many of the Open Inference Protocol."""


def spellings(path: str) -> list[str]:
    first = path[1]
    encoded = "/" + "".join(f"%{ord(c):02x}" if c != "/" else c for c in path[1:])
    return [
        path, f"{path}%0A", f"{path}%0a?x=1", f"{path}%0D%0A", f"{path}%00", f"{path}%20", f"{path}%09", f"{path}/", f"{path}%2f",
        f"{path};", f"{path};a=b", f"{path}?x", f"{path}#x", f"{path}.", f"/{path}", f"/.{path}", f"/x/..{path}", f"/%2e{path}",
        f"/%2e%2e{path}", f"%2f{path[1:]}", path.upper(), path.title(), f"/%{ord(first):02x}{path[2:]}", encoded, f"http://x{path}",
        f"http://x{path}%0A", f"http://x@y:1{path}", path.replace("/", "//"), path.replace("/", "/./"), f"\\{path[1:]}", f"{path}%ff",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("guarded")
    make_artifact(root / "artifacts")
    (root / "keys").write_text(key_lines())
    with serving(root / "artifacts", keys=root / "keys", catalog=root / "catalog.json") as running:
        yield running


def raw(method: str, target: str, headers: str = "") -> bytes:
    body = b'{"instances": [{}]}'
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return (head + headers + "Connection: close\r\n\r\n").encode("latin1") + body


def test_the_guarded_routes_are_those_that_are_meant() -> None:
    assert GUARDED == {
        "/predict": "predict",
        "/rank": "predict",
        "/explain": "predict",
        "/model": "predict",
        "/metrics": "metrics",
        "/catalog": "admin",
        "/admin/reload": "admin",
        "/admin/rollback": "admin",
        "/admin/promote": "admin",
        "/docs": "predict",
        "/openapi.json": "predict",
        "/swagger/swagger-ui.css": "predict",
        "/v2": "predict",
        "/v2/models/ctrserve": "predict",
        "/v2/models/ctrserve/ready": "predict",
        "/v2/models/ctrserve/infer": "predict",
        "/v2/models/ctrserve/versions/v1": "predict",
        "/v2/models/ctrserve/versions/v1/ready": "predict",
        "/v2/models/ctrserve/versions/v1/infer": "predict",
    }


@pytest.mark.parametrize("path", SPELT)
def test_no_spelling_and_no_method_is_answered_without_a_key_and_none_is_a_defect(server: Server, path: str) -> None:
    for method in METHODS:
        for target in spellings(path):
            for headers in ("", "X-Api-Key: wrong\r\n", f"X-Api-Key: {SECRETS['ops'][:-1]}\r\n"):
                answer = send_raw(server, [raw(method, target, headers)])
                assert answer.statuses, f"{method} {target}"
                assert set(answer.statuses) <= {400, 401, 404, 405}, f"{method} {target}: {answer.data[:300]!r}"
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("path", SPELT)
def test_with_every_scope_no_spelling_is_a_defect(server: Server, path: str) -> None:
    for method in METHODS:
        for target in spellings(path):
            answer = send_raw(server, [raw(method, target, f"X-Api-Key: {SECRETS['all']}\r\n")])
            assert answer.statuses, f"{method} {target}"
            assert max(answer.statuses) < 500, f"{method} {target}: {answer.data[:300]!r}"


def ask(server: Server, path: str, headers: dict[str, str]) -> httpx.Response:
    guarded = {"/predict": "POST", "/rank": "POST", "/explain": "POST", "/catalog": "PUT"}
    method = guarded.get(path, "POST" if path.startswith("/admin") or path.endswith("/infer") else "GET")
    given = [(k.encode(), v.encode("latin1")) for k, v in headers.items()]
    return server.client.request(method, path, json={"instances": [ROW]}, headers=given)


def test_each_route_asks_for_a_key_with_its_scope(server: Server) -> None:
    for path, wanted in GUARDED.items():
        for headers in (
            {},
            {"x-api-key": "wrong"},
            {"x-api-key": SECRETS["ops"][:-1]},
            {"x-api-key": ""},
            {"x-api-key": SECRETS["ops"] + "o"},
            {"x-api-key": SECRETS["ops"].upper()},
            {"x-api-key": "%00"},
            {"authorization": f"Basic {SECRETS['ops']}"},
            {"authorization": f"Digest {SECRETS['ops']}"},
            {"authorization": "Bearer k" + "\u00e9".encode().decode("latin1")},
        ):
            answer = ask(server, path, headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for name in ("bidder", "watcher", "ops"):
            answer = ask(server, path, {"x-api-key": SECRETS[name]})
            assert (answer.status_code == 403) == (SCOPES[name] != wanted), path
    for scheme, secret in (
        ("bearer", SECRETS["bidder"]),
        ("Basic", b64encode(f"me:{SECRETS['bidder']}".encode()).decode()),
    ):
        assert ask(server, "/predict", {"authorization": f"{scheme} {secret}"}).status_code == 200
        assert ask(server, "/docs", {"authorization": f"{scheme} {secret}"}).status_code == 200
    query = {"key": SECRETS["bidder"], "api_key": SECRETS["bidder"]}
    assert server.client.post("/predict", params=query, json={"instances": [ROW]}).status_code == 401
    for path in ("/health/live", "/health/ready"):
        assert server.client.get(path).status_code == 200


def test_a_doubled_key_is_refused(server: Server) -> None:
    for first, second in (("all", "wrong"), ("wrong", "all")):
        headers = f"X-Api-Key: {SECRETS.get(first, first)}\r\nX-API-KEY: {SECRETS.get(second, second)}\r\n"
        assert send_raw(server, [raw("POST", "/predict", headers)]).statuses == [400]


def test_a_head_in_pieces_needs_its_key_as_any_other(server: Server) -> None:
    good = raw("POST", "/predict", f"X-Api-Key: {SECRETS['bidder']}\r\n").replace(b"Connection: close\r\n", b"")
    bare = raw("POST", "/predict").replace(b"Connection: close\r\n", b"")
    begun = good[: good.index(b"Content-Length")] + b"X-Pad: "
    for cut in range(1, len(good), 7):
        assert send_raw(server, [good[:cut], good[cut:] + bare], 0.1).statuses[:2] == [200, 401]
    # What follows the first piece is a header's value, whatever it looks like.
    answer = send_raw(server, [begun, bare, bare], 0.2)
    assert 200 not in answer.statuses[1:]


def test_a_key_behind_the_body_is_none(server: Server) -> None:
    head, _, body = raw("POST", "/predict").partition(b"\r\n\r\n")
    chunked = head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
    chunks = b"%x\r\n%b\r\n0\r\nX-Api-Key: %b\r\n\r\n" % (len(body), body, SECRETS["bidder"].encode())
    assert send_raw(server, [chunked + b"\r\n\r\n" + chunks]).statuses == [401]


def test_a_quota_counts_every_request_once_however_it_comes(server: Server) -> None:
    one = raw("POST", "/predict", f"X-Api-Key: {SECRETS['slow']}\r\n").replace(b"Connection: close\r\n", b"")
    pieces = [one[i : i + 50] for i in range(0, len(one), 50)]
    answer = send_raw(server, [*pieces, one * 2, one, one * 3], 0.5)
    assert answer.statuses == [200] * 5 + [429] * 2
    assert answer.data.count(b'"code":"quota_exceeded"') == answer.data.count(b"retry-after: 1") == 2


def test_an_administrators_request_is_not_taken_from_a_page_of_another_site(server: Server) -> None:
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        for path in ("/admin/reload", "/admin/rollback", "/catalog"):
            assert ask(server, path, {"x-api-key": SECRETS["ops"], **headers}).status_code == 403


def test_every_other_method_on_an_administrators_path_is_refused_with_the_one_allowed(server: Server) -> None:
    for path in ("/admin/reload", "/admin/rollback"):
        for method in set(METHODS) - {"POST"}:
            answer = server.client.request(method, path, headers={"x-api-key": SECRETS["ops"]})
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST"), f"{method} {path}"


def test_no_key_is_in_the_log_and_names_are(server: Server) -> None:
    def is_named() -> bool:  # only ten lines a second are written
        ask(server, "/model", {"x-api-key": SECRETS["watcher"]})
        return "watcher" in server.log.read_text()

    server.wait_for(is_named)
    text = server.log.read_text()
    assert not any(secret in text for secret in SECRETS.values())


def test_a_key_that_is_revoked_stops_working_on_open_connections_even_when_nothing_else_can_be_followed(
    tmp_path: Path,
) -> None:
    make_artifact(tmp_path / "artifacts")
    keys, catalog = tmp_path / "keys", tmp_path / "catalog.json"
    keys.write_text(key_lines())
    catalog.mkdir()  # no catalog can be read from it, nor written to it
    with serving(tmp_path / "artifacts", keys=keys, catalog=catalog) as server:
        asked = {"x-api-key": SECRETS["bidder"]}
        assert ask(server, "/predict", asked).status_code == 200  # httpx keeps the connection
        keys.write_text(key_lines("bidder"))
        server.wait_for(lambda: ask(server, "/predict", asked).status_code == 401)
        assert ask(server, "/model", {"x-api-key": SECRETS["all"]}).status_code == 200
        keys.write_text("")
        server.wait_for(lambda: ask(server, "/model", {"x-api-key": SECRETS["all"]}).status_code == 401)
        assert "no key is valid" in server.log.read_text()


def test_without_a_key_file_there_are_no_admin_paths(tmp_path: Path) -> None:
    make_artifact(tmp_path)
    with serving(tmp_path, metrics=False, docs=False) as server:
        for path in ("/admin/reload", "/admin/rollback", "/admin"):
            assert server.client.post(path, headers={"x-api-key": SECRETS["ops"]}).status_code == 404
        for path in ("/metrics", "/docs", "/openapi.json", "/", "/swagger/swagger-ui.css"):
            assert server.client.get(path).status_code == 404


def test_a_route_that_declares_nothing_is_not_served() -> None:
    async def answer() -> None:
        """Do nothing."""

    open_on_purpose, forgotten = APIRouter(), APIRouter()
    open_on_purpose.add_api_route("/x", answer, dependencies=[PUBLIC])
    forgotten.add_api_route("/x", answer)
    check_declared(open_on_purpose.routes)
    with pytest.raises(ValueError, match="'/x' does not declare"):
        check_declared(forgotten.routes)
    forgotten.routes.clear()
    forgotten.add_route("/y", lambda request: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="'/y' does not declare"):
        check_declared(forgotten.routes)
