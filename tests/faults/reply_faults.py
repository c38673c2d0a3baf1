"""B: Redis late or lying. The right answers are those of a service that has none."""

from __future__ import annotations

import struct
import time
from zlib import crc32

from tests.faults.matrix import BUDGET_MS, Arena, fault
from tests.faults.redis_watching import during, fill, lookups, proxied, redis_state
from tests.faults.watching import until


@fault("B5", "every reply 5, 20 or 200 ms late", "no error, same bytes; no request waits beyond its budget")
def late(arena: Arena) -> None:
    with proxied(arena) as (server, _, proxy):
        for delay_ms in (5, 20, 200):
            longest_s = during(arena, server, lambda d=delay_ms: setattr(proxy, "delay_s", d / 1000))  # type: ignore[misc]
            arena.tally.notes.append(f"{delay_ms} ms late: {longest_s * 1000:.0f} ms at most")
            proxy.pass_all()
            fill(arena, server)  # a closed breaker, so that the next delay is met too


@fault(
    "B6", "replies cut, silenced, or replaced by garbage, wrong types and giant lengths", "misses; no error, same bytes"
)
def garbled(arena: Arena) -> None:
    with proxied(arena) as (server, _, proxy):
        for n, garbage in enumerate(
            (
                b"\x00\xff" * 50,
                b"+OK\r\n",
                b":7\r\n",
                b"$2147483647\r\n",
                b"*2147483647\r\n",
                b"*1\r\n$3\r\nabc\r\n",
                b"$-5\r\n",
                b"%7\r\n",
            )
        ):
            during(arena, server, lambda g=garbage: setattr(proxy, "garbage", g), 0.3)  # type: ignore[misc]
            proxy.pass_all()
            until(lambda: redis_state(server) == "ok", f"garbage {n}")
        for size in (0, 1, 100):
            during(arena, server, lambda s=size: setattr(proxy, "cut_after", s), 0.3)  # type: ignore[misc]
            proxy.pass_all()
            until(lambda: redis_state(server) == "ok", f"cut {size}")
        during(arena, server, lambda: setattr(proxy, "is_silent", True))
        proxy.pass_all()
        until(lambda: redis_state(server) == "ok", "silence")
        fill(arena, server)


def forged(value: bytearray) -> bytearray:
    """Return a well-formed value with a number that no table of ours holds."""
    start = len(value) - 4 - 4  # of the last number, before the checksum
    body = bytes(value[:start]) + struct.pack("<f", 1e30)
    return bytearray(body + struct.pack("<I", crc32(body)))


@fault(
    "B8",
    "values with flipped bits, cut short, of other keys, of zeros, of numbers beyond the table's",
    "counted as corrupt, never used",
)
def corrupt(arena: Arena) -> None:
    with arena.serve_with_redis() as (server, redis), redis.client() as client:
        fill(arena, server)
        keys = sorted(client.keys("ctr:*"))
        values = [v for key in keys if isinstance(v := client.get(key), bytes)]
        before = lookups(server, "corrupt")
        with arena.load(server):
            for n in range(10 * arena.scale):
                for i, key in enumerate(keys):
                    value = bytearray(values[i])
                    if n % 5 == 0:
                        value[(i + n) % len(value)] ^= 1 << (n % 8)
                    elif n % 5 == 1:
                        del value[(i + n) % len(value) :]
                    elif n % 5 == 2:
                        value = bytearray(values[i - 1])
                    elif n % 5 == 3:
                        value = forged(value)
                    else:
                        value = bytearray(len(value))
                    client.set(key, bytes(value))
                time.sleep(0.1)
        found = lookups(server, "corrupt") - before
        assert found > 0
        arena.tally.notes.append(f"{found:.0f} corrupt values met")


@fault("B9", "lists and hashes under the keys; rows of another table", "misses; no error, same bytes")
def wrong_type(arena: Arena) -> None:
    with arena.serve_with_redis() as (server, redis), redis.client() as client:
        fill(arena, server)
        keys = sorted(client.keys("ctr:*"))
        with arena.load(server):
            for i, key in enumerate(keys):
                client.delete(key)
                if i % 2:
                    client.rpush(key, "a")
                else:
                    client.hset(key, "a", "b")
            time.sleep(0.5)
        assert redis_state(server) == "ok"


@fault("B10", "replies that come after their request has given up", "dropped; no reply is ever taken for another's")
def crossed(arena: Arena) -> None:
    with proxied(arena) as (server, _, proxy):
        with arena.load(server, 400, num_threads=8):
            for n in range(10 * arena.scale):
                proxy.delay_s = (BUDGET_MS + 10) / 1000 if n % 2 else 0.0
                time.sleep(0.1)
        arena.tally.notes.append(f"{lookups(server, 'timeout'):.0f} rows given up on")
