"""API keys: the file, the quota, and a real server that asks for them."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.http.admin_routes import router as admin_router
from app.http.api_keys import PERMISSIONS, Bucket, KeyFile, parse_keys
from app.http.routes import metrics_router, router
from app.main import create_app
from app.settings import Settings
from tests.making import make_artifact
from tests.server import Server, serving

ROW = {"user_id": 7, "ad_id": "ad3", "price": 1.5}
SECRETS = {"bidder": "b" * 43, "slow": "s" * 43, "watcher": "w" * 43, "ops": "o" * 43}


def line(name: str, scopes: str, rate: str = "") -> str:
    return f"{name} {scopes} {hashlib.sha256(SECRETS[name].encode()).hexdigest()} {rate}".strip()


TEXT = "\n".join(
    [
        "# who may call",
        line("bidder", "predict"),
        line("slow", "predict", "2"),
        line("watcher", "metrics"),
        line("ops", "admin"),
    ]
)


@pytest.mark.parametrize(
    "text", ["", "# nothing", "a predict", "a predict 00", "a everything " + "0" * 64, "a predict " + "0" * 64 + " -1"]
)
def test_what_is_no_key_file_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_keys(text)
    assert "00" not in str(caught.value)


def test_the_command_makes_a_key_that_its_line_admits(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "app.keys", "bidder", "predict,metrics", "100"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    path = tmp_path / "keys"
    path.write_text(made.stdout)
    secret = made.stderr.strip().rsplit(" ", 1)[1]
    assert secret not in made.stdout
    assert KeyFile(path, 1).admit("/predict", {b"x-api-key": secret.encode()}) == ("bidder", None)


def test_a_bucket_lets_its_rate_through_and_tells_how_long_to_wait() -> None:
    now = 0.0
    bucket = Bucket(4, lambda: now)
    assert [bucket.take() for _ in range(5)] == [0, 0, 0, 0, 0.25]
    now = 0.25
    assert bucket.take() == 0
    now = 100
    assert [bucket.take() == 0 for _ in range(5)] == [True] * 4 + [False]


def test_keys_rotate_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(line("bidder", "predict"))
    keys = KeyFile(path, 1)
    for text, valid in (
        (line("bidder", "predict") + "\n" + line("ops", "predict"), {"bidder", "ops"}),
        (line("ops", "predict"), {"ops"}),
        ("rubbish", {"ops"}),
        (line("bidder", "predict"), {"bidder"}),
    ):
        path.write_text(text)
        keys.refresh()
        for name in ("bidder", "ops"):
            headers = {b"authorization": b"Bearer " + SECRETS[name].encode()}
            who, problem = keys.admit("/predict", headers)
            assert (who, problem) == (name, None) if name in valid else problem is not None
    path.unlink()
    keys.refresh()
    assert keys.admit("/predict", {b"x-api-key": SECRETS["bidder"].encode()}) == ("bidder", None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("guarded")
    make_artifact(root / "artifacts")
    (root / "keys").write_text(TEXT)
    with serving(root / "artifacts", keys=root / "keys", catalog=root / "catalog.json") as running:
        yield running


def ask(server: Server, path: str, headers: dict[str, str]) -> httpx.Response:
    method = {"/metrics": "GET", "/model": "GET", "/catalog": "PUT"}.get(path, "POST")
    return server.client.request(
        method, path, json={"instances": [ROW]}, headers=[(k.encode(), v.encode("latin1")) for k, v in headers.items()]
    )


def test_each_path_asks_for_a_key_that_allows_it(server: Server) -> None:
    for path, wanted in PERMISSIONS.items():
        for headers in (
            {},
            {"x-api-key": "wrong"},
            {"x-api-key": SECRETS["ops"][:-1]},
            {"authorization": f"Basic {SECRETS['ops']}"},
            {"authorization": "Bearer k" + "\u00e9".encode().decode("latin1")},
        ):
            answer = ask(server, path, headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        for name, scope in (("bidder", "predict"), ("watcher", "metrics"), ("ops", "admin")):
            answer = ask(server, path, {"x-api-key": SECRETS[name]})
            assert (answer.status_code == 403) == (scope != wanted), path
    assert ask(server, "/predict", {"authorization": f"bearer {SECRETS['bidder']}"}).status_code == 200
    assert server.client.post(f"/predict?key={SECRETS['bidder']}", json={"instances": [ROW]}).status_code == 401
    for path in ("/health/live", "/health/ready", "/docs", "/openapi.json"):
        assert server.client.get(path).status_code == 200
    for path in ("/admin", "/admin/", "/ADMIN/RELOAD"):
        assert server.client.get(path).status_code == 404


def test_a_quota_is_kept(server: Server) -> None:
    statuses = [ask(server, "/predict", {"x-api-key": SECRETS["slow"]}).status_code for _ in range(8)]
    assert statuses[:2] == [200, 200]
    assert statuses.count(429) >= 5
    refused = ask(server, "/predict", {"x-api-key": SECRETS["slow"]})
    assert (refused.json()["code"], refused.headers["retry-after"]) == ("quota_exceeded", "1")


def test_an_administrators_request_is_not_taken_from_a_page_of_another_site(server: Server) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        for path in ("/admin/reload", "/admin/rollback", "/catalog"):
            assert ask(server, path, {"x-api-key": SECRETS["ops"], **headers}).status_code == 403


def test_no_key_is_in_the_log_and_names_are(server: Server) -> None:
    ask(server, "/model", {"x-api-key": SECRETS["watcher"]})
    server.wait_for(lambda: "watcher" in server.log.read_text())
    text = server.log.read_text()
    assert not any(secret in text for secret in SECRETS.values())


def test_every_route_is_open_on_purpose_or_asks_for_a_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(TEXT)
    app = create_app(Settings(keys=tmp_path / "keys"))
    routes = [*app._app.routes, *router.routes, *metrics_router.routes, *admin_router.routes]  # type: ignore[attr-defined]
    paths = {path for route in routes if (path := getattr(route, "path", None))}
    documentation = {path for path in paths if path == "/" or path.startswith(("/docs", "/openapi.json", "/swagger/"))}
    assert documentation
    assert paths - documentation - {"/health/live", "/health/ready"} == set(PERMISSIONS)


def test_without_a_key_file_there_are_no_admin_paths(tmp_path: Path) -> None:
    make_artifact(tmp_path)
    with serving(tmp_path, metrics=False, docs=False) as server:
        for path in ("/admin/reload", "/admin/rollback"):
            assert server.client.post(path).status_code == 404
        for path in ("/metrics", "/docs", "/openapi.json"):
            assert server.client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (["--host", "0.0.0.0"], None, "CTR_ALLOW_ANONYMOUS"),
        (["--keys", "{}"], None, "No such file"),
        (["--keys", "{}"], "rubbish", "line 1"),
    ],
)
def test_what_would_be_open_or_broken_does_not_start(
    tmp_path: Path, arguments: list[str], text: str | None, said: str
) -> None:
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text)
    command = [sys.executable, "-m", "app", *(argument.format(path) for argument in arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1
