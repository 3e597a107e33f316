"""The client library: one typed client, sync and async."""

from __future__ import annotations

from stillhouse.client.asynchronous import AsyncClient
from stillhouse.client.sync import Client

__all__ = ["AsyncClient", "Client"]
