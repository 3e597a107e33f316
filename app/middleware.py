"""What wraps every request: an id, a limit on the body, headers that close doors."""

from __future__ import annotations

import json
import logging
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from app import logs
from stillhouse.resources import Problem

logger = logging.getLogger(__name__)

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class RequestGuard:
    """Pure ASGI, so that event streams pass through unbuffered.

    A body is read whole and held to ``body_limit`` before a route sees it. Routes that ``streamed`` matches, by
    method and path, read theirs piece by piece and hold it to limits of their own.
    """

    def __init__(self, app: ASGIApp, *, body_limit: int, streamed: re.Pattern[str]) -> None:
        self.app = app
        self.body_limit = body_limit
        self.streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _SANE_ID.fullmatch(given) else f"req_{str(ULID()).lower()}"
        scope.setdefault("state", {})["request_id"] = request_id
        logs.bind(request_id=request_id)

        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                present = {name for name, _ in message["headers"]}
                closing = [(name, value) for name, value in _HEADERS if name not in present]
                message["headers"] = [*message["headers"], *closing, (b"x-request-id", request_id.encode())]
            await send(message)

        streamed = self.streamed.fullmatch(f"{scope['method']} {scope['path']}") is not None
        body = b"" if streamed else await self._body(headers, receive)
        if body is None:
            detail = f"the body may hold at most {self.body_limit} bytes; send a smaller spec"
            problem = Problem(
                title="Request body too large", status=413, detail=detail, code="too_large", request_id=request_id
            )
            await _answer(problem, send_with_headers)
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            await self.app(scope, receive if streamed else replay, send_with_headers)
        except Exception:
            logger.exception("request %s failed", request_id)
            if started:
                raise  # the answer is cut; nothing else can be said in it
            detail = "a defect in the service; its log holds the details under this request_id"
            problem = Problem(title="Internal error", status=500, detail=detail, code="internal", request_id=request_id)
            await _answer(problem, send_with_headers)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body, or None once it is larger than the limit, declared or not."""
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.body_limit:
            return None
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return body
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.body_limit:
                return None
        return body


async def _answer(problem: Problem, send: Send) -> None:
    body = json.dumps(problem.model_dump()).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
