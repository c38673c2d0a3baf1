"""API keys: the file, the quota, revocation."""

import hashlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from app.http.api_keys import Bucket, KeyFile, parse_keys
from app.problems import Problem

SECRETS = {name: name[0] * 43 for name in ("bidder", "ops", "slow", "watcher")}


def line(name: str, scopes: str, rate: str = "") -> str:
    return f"{name} {scopes} {hashlib.sha256(SECRETS[name].encode()).hexdigest()} {rate}".strip()


def verdict(keys: KeyFile, name: str) -> str:
    try:
        key = keys.identify({b"x-api-key": SECRETS[name].encode()})
        keys.admit(key, "predict")
        return key.name
    except Problem as problem:
        return problem.code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        "a predict",
        "a predict 00",
        "a everything " + "0" * 64,
        "a predict " + "0" * 64 + " -1",
        "a predict " + "0" * 64 + " 0",
        "a predict " + "0" * 64 + " 0.0",
    ],
)
def test_a_wrong_key_file_is_refused_without_showing_its_content(text: str) -> None:
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
    assert KeyFile(path, 1).identify({b"x-api-key": secret.encode()}).name == "bidder"


def test_a_bucket_lets_its_rate_through_and_tells_how_long_to_wait() -> None:
    now = 0.0
    bucket = Bucket(4, lambda: now)
    assert [bucket.take() for _ in range(5)] == [0, 0, 0, 0, 0.25]
    now = 0.25
    assert bucket.take() == 0
    now = 100
    assert [bucket.take() == 0 for _ in range(5)] == [True] * 4 + [False]


def test_keys_rotate_and_a_file_that_cannot_be_used_lets_nobody_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text(line("bidder", "predict"))
    keys = KeyFile(path, 1)
    for text, valid in (
        (line("bidder", "predict") + "\n" + line("ops", "predict"), {"bidder", "ops"}),
        (line("ops", "predict"), {"ops"}),
        ("rubbish", set()),
        (line("bidder", "predict"), {"bidder"}),
        ("# the last key is taken out\n", set()),
        (line("ops", "predict"), {"ops"}),
        ("\udcff", set()),
        (None, set()),
        (line("bidder", "predict"), {"bidder"}),
    ):
        caplog.clear()
        if text is None:
            path.unlink()
        else:
            path.write_bytes(text.encode(errors="surrogateescape"))
        for _ in range(2):
            keys.refresh()
        assert {name for name in ("bidder", "ops") if verdict(keys, name) == name} == valid
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) <= 1  # said once, however often it is looked at
        assert valid or errors or text is None


def test_a_key_revoked_while_a_request_is_identified_is_refused_from_the_next_one_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys"
    path.write_text(line("bidder", "predict") + "\n" + line("ops", "predict"))
    keys = KeyFile(path, 1)

    def revoked_meanwhile(data: bytes) -> "hashlib._Hash":
        monkeypatch.undo()
        path.write_text(line("ops", "predict"))
        keys.refresh()
        return hashlib.sha256(data)

    monkeypatch.setattr("app.http.api_keys.hashlib.sha256", revoked_meanwhile)
    verdict(keys, "bidder")
    assert verdict(keys, "bidder") == "unauthorized"
    assert verdict(keys, "ops") == "ops"


def test_a_quota_outlives_a_change_of_the_file_that_does_not_touch_it(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(line("slow", "predict", "2"))
    keys = KeyFile(path, 1, clock=lambda: 0.0)
    assert [verdict(keys, "slow") for _ in range(3)] == ["slow", "slow", "quota_exceeded"]
    path.write_text(line("slow", "predict", "2") + "\n" + line("ops", "admin"))
    keys.refresh()
    assert verdict(keys, "slow") == "quota_exceeded"
