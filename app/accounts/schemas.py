"""What a client sends about keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.auth import Scope

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]


class KeyRequest(BaseModel):
    """A key to be made in the caller's project."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name = "key"
    scopes: list[Scope] = Field(default=["jobs:read", "jobs:write"], min_length=1, max_length=4)
