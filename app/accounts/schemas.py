"""What a client sends about keys and projects."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.auth import Scope

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]


class KeyRequest(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name = "key"
    project: Name | None = Field(default=None, description="Made if need be; by default the caller's.")
    scopes: list[Scope] = Field(default=["jobs:read", "jobs:write"], min_length=1, max_length=4)


_COUNT = 2**31 - 1
_BYTES = 2**63 - 1
"""The largest that the database holds."""


class LimitsPatch(BaseModel):
    """Those that are named are set; null is the installation's."""

    model_config = ConfigDict(extra="forbid", strict=True)

    running: int | None = Field(default=None, ge=0, le=_COUNT, description="0 suspends the project.")
    waiting: int | None = Field(default=None, ge=0, le=_COUNT)
    storage_bytes: int | None = Field(default=None, ge=0, le=_BYTES)


class ProjectPatch(BaseModel):
    """What is changed of a project (RFC 7396)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    limits: LimitsPatch
