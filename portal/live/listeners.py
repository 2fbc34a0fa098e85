"""Who listens, and to what: everybody to the workspaces they are a member of, and to their own news. Pure asyncio."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MOST, MOST_OF_ONE = 5_000, 50  # streams: of all, and of one user (each open tab has one)
RESYNC = "resync"


class TooMany(Exception):
    """No further stream can be opened at the moment."""


@dataclass(eq=False)
class Listener:
    """One open page. What it was not told yet is kept once for each thing: a slow one takes no memory."""

    user_id: int
    workspaces: frozenset[int]
    pending: dict[str, tuple[str, str]] = field(default_factory=dict)  # of what: name and data of the event
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False

    def tell(self, what: str, event: str, data: Mapping[str, Any]) -> None:
        self.pending.pop(what, None)  # the newest last
        self.pending[what] = (event, json.dumps(data))
        self.woken.set()

    def end(self) -> None:
        self.over = True
        self.woken.set()

    async def news(self) -> AsyncIterator[tuple[str, str]]:
        """Name and data of each event, until it is ended."""
        while not self.over:
            await self.woken.wait()
            self.woken.clear()
            while self.pending and not self.over:
                yield self.pending.pop(next(iter(self.pending)))


class Listeners:
    """All open pages, found by workspace and by user."""

    def __init__(self) -> None:
        self._all: set[Listener] = set()
        self._of_workspace: dict[int, set[Listener]] = {}
        self._of_user: dict[int, set[Listener]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Listener]:
        return iter(tuple(self._all))

    @property
    def users(self) -> list[int]:
        return list(self._of_user)

    def check_room(self, user_id: int) -> None:
        """Raises TooMany."""
        if len(self._all) >= MOST or len(self._of_user.get(user_id, ())) >= MOST_OF_ONE:
            raise TooMany

    def add(self, user_id: int, workspaces: Collection[int]) -> Listener:
        """Raises TooMany."""
        self.check_room(user_id)
        listener = Listener(user_id, frozenset(workspaces))
        self._all.add(listener)
        self._of_user.setdefault(user_id, set()).add(listener)
        for workspace in listener.workspaces:
            self._of_workspace.setdefault(workspace, set()).add(listener)
        return listener

    def remove(self, listener: Listener) -> None:
        self._all.discard(listener)
        _drop(self._of_user, listener.user_id, listener)
        for workspace in listener.workspaces:
            _drop(self._of_workspace, workspace, listener)

    def end_those_that_changed(self, members: Mapping[int, Collection[int]]) -> None:
        """End the streams of who is in other workspaces than before or not active: a page opens another by itself."""
        for listener in self:
            if listener.workspaces != frozenset(members.get(listener.user_id, ())):
                listener.end()

    def hear(self, payload: str) -> None:
        """Pass on what the database said (reservations/migrations: berth_tell_live). Others' words are left out."""
        try:
            said = json.loads(payload)
        except ValueError:
            return
        if not isinstance(said, dict):
            return
        if isinstance(number := said.get("reservation"), int):
            there = self._of_workspace.get(said.get("workspace", 0), set())
            # How many will ask for the rest at once: they spread out.
            data = {"id": number, "state": said.get("state"), "listeners": len(there)}
            for listener in there:
                listener.tell(f"reservation:{number}", "reservation", data)
        elif isinstance(user := said.get("user"), int):
            for listener in self._of_user.get(user, set()):
                listener.tell("news", "news", {})

    def resync(self) -> None:
        """What happened in between is not known: everybody looks anew."""
        for listener in self:
            listener.tell(RESYNC, RESYNC, {"listeners": len(self)})


def _drop(index: dict[int, set[Listener]], key: int, listener: Listener) -> None:
    there = index.get(key)
    if there is not None:
        there.discard(listener)
        if not there:
            del index[key]
