"""What the database tells: one connection that listens for all, and who may hear what."""

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import psycopg

from portal.live.listeners import Listeners

logger = logging.getLogger(__name__)
CHANNEL = "berth_live"
PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
MEMBERS_EVERY_S = 30.0

_MEMBERS = """
SELECT person.id, coalesce(array_agg(member.workspace_id) FILTER (WHERE member.workspace_id IS NOT NULL), '{}')
FROM accounts_user person LEFT JOIN accounts_membership member ON member.user_id = person.id
WHERE person.is_active AND person.id = ANY(%s) GROUP BY person.id
"""


async def workspaces_of(connection: psycopg.AsyncConnection, users: Collection[int]) -> dict[int, frozenset[int]]:
    """The workspaces of each of these users; without those that are not active."""
    cursor = await connection.execute(_MEMBERS, [list(users)])
    return {user: frozenset(workspaces) for user, workspaces in await cursor.fetchall()}


class Database:
    """Connected again whenever the connection is lost, with growing pauses."""

    def __init__(self, parameters: dict[str, Any], listeners: Listeners) -> None:
        self._parameters = parameters
        self._listeners = listeners
        self._asking: psycopg.AsyncConnection | None = None
        self._lock = asyncio.Lock()

    async def members(self, users: Collection[int]) -> dict[int, frozenset[int]]:
        """As `workspaces_of`. Raises psycopg.OperationalError when the database gives no answer."""
        async with self._lock:
            if self._asking is not None:
                # That the server ended a connection (a restart, a pooler's limit) is only seen when it is asked again.
                with suppress(psycopg.OperationalError):
                    return await workspaces_of(self._asking, users)
                await self._asking.close()
            self._asking = await self._connect()
            return await workspaces_of(self._asking, users)

    async def listen(self) -> None:
        """For ever: pass on what is told. After a gap everybody looks anew."""
        pause, again = PAUSE_S, False
        while True:
            with suppress(psycopg.OperationalError):
                async with await self._connect() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    if again:
                        self._listeners.resync()
                    pause, again = PAUSE_S, True
                    async for notice in connection.notifies():
                        self._listeners.hear(notice.payload)
            logger.warning("the database gives no answer; pages ask by themselves until it does")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def check_members(self) -> None:
        """For ever: who left a workspace, or was switched off, hears nothing of it any more."""
        while True:
            await asyncio.sleep(MEMBERS_EVERY_S)
            with suppress(psycopg.OperationalError):
                if users := self._listeners.users:
                    self._listeners.end_those_that_changed(await self.members(users))

    async def close(self) -> None:
        if self._asking is not None:
            await self._asking.close()

    async def _connect(self) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(**self._parameters, autocommit=True)
