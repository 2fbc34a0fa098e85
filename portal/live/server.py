"""The addresses of the process: /live/events for browsers, /live/healthz for operators."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from portal.live.database import Database
from portal.live.listeners import Listener, Listeners, TooMany
from portal.live.tickets import reader

PING_S = 20  # seconds: proxies end what is silent for a minute
# The ticket is the key, no cookie is read: so any page that has one may listen, at whatever name it reached us by.
HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'",
}


def application(parameters: dict[str, Any]) -> Starlette:
    """`parameters` are psycopg's, of the portal's database."""
    listeners = Listeners()
    database = Database(parameters, listeners)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (database.listen(), database.check_members())]
        try:
            yield
        finally:
            for listener in listeners:
                listener.end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await database.close()

    async def events(request: Request) -> Response:
        user_id = reader(request.query_params.get("ticket", ""))
        if user_id is None:
            return PlainTextResponse("This page is too old: load it again.\n", 401, HEADERS)
        try:
            listeners.check_room(user_id)
            members = await database.members([user_id])
            if user_id not in members:
                return PlainTextResponse("There is no such account.\n", 401, HEADERS)
            listener = listeners.add(user_id, members[user_id])
        except TooMany:
            return PlainTextResponse("Too many pages are open.\n", 503, {**HEADERS, "Retry-After": "60"})
        except psycopg.OperationalError:
            return PlainTextResponse("The database gives no answer.\n", 503, {**HEADERS, "Retry-After": "5"})
        return EventSourceResponse(_stream(listener, listeners), headers=HEADERS, ping=PING_S, send_timeout=10)

    async def health(_: Request) -> Response:
        return PlainTextResponse(f"ok, {len(listeners)} listen\n")

    routes = [Route("/live/events", events), Route("/live/healthz", health)]
    return Starlette(routes=routes, lifespan=lifespan)


async def _stream(listener: Listener, listeners: Listeners) -> AsyncIterator[ServerSentEvent]:
    try:
        yield ServerSentEvent(event="hello", data="{}", retry=2000)
        async for name, data in listener.news():
            yield ServerSentEvent(event=name, data=data)
    finally:
        listeners.remove(listener)
