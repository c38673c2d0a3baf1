"""Few lines, and the last one is never lost."""

import asyncio
import logging

import pytest

from app.embeddings.state_log import StateLog


def test_the_first_line_is_written_at_once_and_of_those_within_a_second_the_last(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.embeddings.state_log.EVERY_S", 0.05)
    caplog.set_level(logging.INFO, "ctrserve.redis")

    async def run() -> None:
        log = StateLog(asyncio.get_running_loop().time)
        for i in range(100):
            log.say(logging.WARNING, f"line {i}")
        assert caplog.messages == ["line 0"]
        await asyncio.sleep(0.1)
        assert caplog.messages == ["line 0", "line 99"]

    asyncio.run(run())


def test_a_closed_log_says_no_more(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.embeddings.state_log.EVERY_S", 0.02)

    async def run() -> None:
        log = StateLog(asyncio.get_running_loop().time)
        log.say(logging.WARNING, "one")
        log.say(logging.WARNING, "two")
        log.close()
        await asyncio.sleep(0.05)

    asyncio.run(run())
    assert caplog.messages == ["one"]
