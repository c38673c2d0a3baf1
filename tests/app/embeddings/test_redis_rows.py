"""Rows through a real server that is well: they are cached, shared, asked for once, and expire."""

import asyncio

import numpy as np

from app.embeddings import write_behind
from app.embeddings.redis_rows import RedisRows
from app.observability.metrics import Telemetry
from tests.app.embeddings.making import (
    DIGEST,
    NUM_ROWS,
    PATIENT_MS,
    make_source,
    make_table,
    open_world,
    sample,
    until,
)
from tests.redis_server import RedisServer

IDS = np.arange(400, 426)  # cold, all of them


def test_a_miss_is_written_behind_and_is_a_hit_the_next_time(server: RedisServer) -> None:
    async def run() -> None:
        async with open_world(server.url) as world:
            await world.fill(IDS)
            assert (world.lookups("miss"), world.rows("table"), world.writes("ok")) == (26, 26, 26)
            await world.check(IDS)
            assert (world.lookups("hit"), world.rows("redis"), world.rows("table")) == (26, 26, 26)
            assert world.redis.state() == "ok"

    asyncio.run(run())


def test_duplicates_and_hot_rows_keep_their_places_and_are_all_counted(server: RedisServer) -> None:
    ids = np.array([500, 0, 400, 500, 301, 400, 500])

    async def run() -> None:
        async with open_world(server.url) as world:
            await world.fill(np.array([400, 500]))
            await world.check(ids)
            assert (world.lookups("hit"), world.rows("redis"), world.rows("hot")) == (5, 5, 2)
            await world.check(np.array([0, 1]))  # all hot: nothing is asked
            assert world.rows("hot") == 4
            await world.source.fetch(np.array([0, 1]))
            assert world.rows("hot") == 6
            assert sum(world.lookups(o) for o in ("hit", "miss")) == 7

    asyncio.run(run())


def test_one_worker_reads_what_another_has_written(server: RedisServer) -> None:
    async def run() -> None:
        async with open_world(server.url) as first:
            await first.fill(IDS)
        async with open_world(server.url) as second:
            await second.check(IDS)
            assert second.lookups("hit") == 26

    asyncio.run(run())


def test_two_table_versions_share_one_connection_and_never_mix(server: RedisServer) -> None:
    async def run() -> None:
        async with open_world(server.url) as old:
            table, telemetry = make_table(seed=1, dim=9), Telemetry()
            new = make_source(table, telemetry, old.redis, digest="f" * 64)
            await old.fill(IDS)
            for _ in range(2):
                both = await asyncio.gather(old.source.fetch(IDS), new.fetch(IDS))
                assert both[0].tobytes() == old.table[IDS].tobytes()
                assert both[1].tobytes() == table[IDS].tobytes()
                await until(lambda: old.writes("ok") == 52)
            assert old.lookups("hit") == 52
            assert sample(telemetry, "ctr_redis_lookups_total", outcome="hit") == 26
            await new.aclose()
            assert new.fetch_now(IDS) is not None  # has let go of Redis
            await old.check(IDS)

    asyncio.run(run())


def test_a_stampede_on_one_cold_row_asks_for_one_key(server: RedisServer) -> None:
    async def run() -> None:
        async with open_world(server.url) as world:
            await world.redis._mget([b"warm"])
            with server.client() as client:
                client.config_resetstat()
                await asyncio.gather(*(world.check(np.array([700])) for _ in range(200)))
                stats = client.info("stats")
                commands = client.info("commandstats")
            assert commands["cmdstat_mget"]["calls"] == 1
            assert stats["keyspace_hits"] + stats["keyspace_misses"] == 1
            await until(lambda: world.writes("ok") == 1)
            assert world.lookups("miss") == 200

    asyncio.run(run())


def test_a_request_that_comes_while_its_row_is_under_way_joins_it(server: RedisServer) -> None:
    async def run() -> None:
        async with open_world(server.url) as world:
            await world.redis._mget([b"warm"])
            server.freeze()
            requests = []
            for _ in range(20):
                requests.append(asyncio.create_task(world.check(np.array([700]))))
                await asyncio.sleep(0.005)
            server.thaw()
            await asyncio.gather(*requests)
            assert world.lookups("miss") == 20
            with server.client() as client:
                assert client.info("commandstats")["cmdstat_mget"]["calls"] <= 3  # of which two are not ours

    asyncio.run(run())


def test_more_rows_than_one_command_or_one_batch_takes(server: RedisServer) -> None:
    table = make_table(10_000)
    ids = np.random.default_rng(0).permutation(np.arange(400, 10_000))

    async def run() -> None:
        telemetry = Telemetry()
        redis = RedisRows(server.url, 10_000, 60, telemetry)
        source = make_source(table, telemetry, redis)
        for start in range(0, len(ids), 4000):
            before = sample(telemetry, "ctr_redis_writes_total", outcome="ok")
            part = ids[start : start + 4000]
            assert (await source.fetch(part)).tobytes() == table[part].tobytes()
            written = before + len(part)
            await until(lambda n=written: sample(telemetry, "ctr_redis_writes_total", outcome="ok") == n)  # type: ignore[misc]
        assert (await source.fetch(ids)).tobytes() == table[ids].tobytes()
        assert sample(telemetry, "ctr_redis_lookups_total", outcome="hit") == len(ids)
        with server.client() as client:
            assert client.info("commandstats")["cmdstat_mget"]["calls"] <= 2 * (len(ids) // 512 + 6)
            assert client.info("clients")["connected_clients"] <= 4
        await redis.aclose()

    asyncio.run(run())


def test_concurrent_requests_all_get_their_own_rows(server: RedisServer) -> None:
    rng = np.random.default_rng(0)

    async def run() -> None:
        async with open_world(server.url) as world:
            for _ in range(5):
                await asyncio.gather(*(world.check(rng.integers(0, NUM_ROWS, 26)) for _ in range(100)))
            assert world.lookups("hit") > 0
            assert sum(world.lookups(o) for o in ("hit", "miss")) == world.rows("redis") + world.rows("table")

    asyncio.run(run())


def test_rows_expire_a_tenth_earlier_or_later(server: RedisServer) -> None:
    async def run() -> None:
        async with open_world(server.url, ttl_s=1000) as world:
            await world.fill(np.arange(400, 600))
        with server.client() as client:
            ttls = [client.ttl(f"ctr:{DIGEST[:16]}:{i}") for i in range(400, 600)]
        assert 890 <= min(ttls) < 930
        assert 1070 < max(ttls) <= 1100

    asyncio.run(run())


def test_an_expired_row_is_a_miss(server: RedisServer) -> None:
    async def run() -> None:
        async with open_world(server.url, ttl_s=0.05) as world:
            await world.fill(IDS)
            await asyncio.sleep(0.1)
            await world.check(IDS)
            assert world.lookups("miss") == 52

    asyncio.run(run())


def test_the_queue_of_writes_is_bounded_and_drops_the_oldest(server: RedisServer) -> None:
    num_over = 1000
    ids = np.arange(write_behind.MAX_QUEUED + num_over)
    table = make_table(len(ids))

    async def run() -> None:
        async with open_world(server.url) as world:
            for part in np.array_split(ids, 10):
                world.redis.remember(world.source._codec, part, table[part])
            await until(lambda: world.writes("ok") == write_behind.MAX_QUEUED)
            assert world.writes("dropped") == num_over
        with server.client() as client:
            assert client.exists(f"ctr:{DIGEST[:16]}:{num_over}") == 1
            assert client.exists(f"ctr:{DIGEST[:16]}:{num_over - 1}") == 0

    asyncio.run(run())


def test_closing_sends_waiting_requests_to_the_table(server: RedisServer) -> None:
    async def run() -> None:
        async with open_world(server.url) as world:
            await world.redis._mget([b"warm"])
            server.freeze()
            requests = [asyncio.create_task(world.check(IDS + i)) for i in range(5)]
            await asyncio.sleep(0.02)
            await asyncio.wait_for(world.redis.aclose(), 1)
            await asyncio.wait_for(asyncio.gather(*requests), PATIENT_MS / 2000)
            assert world.lookups("skipped") == 5 * 26
            assert world.source.fetch_now(IDS) is not None
            assert world.redis.state() == "unavailable"

    asyncio.run(run())
