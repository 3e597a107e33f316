"""What a spec may name, straight from the spec package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends

from app.dependencies import requires
from stillhouse.resources import CatalogEntry, Page
from stillhouse.spec.catalog import architectures
from stillhouse.spec.datasets import DATASETS
from stillhouse.spec.methods import METHODS

router = APIRouter(prefix="/v1/catalog", tags=["catalog"], dependencies=[Depends(requires("jobs:read"))])

Kind = Literal["architectures", "methods", "datasets", "exports"]


@router.get("/{kind}")
def catalog(kind: Annotated[Kind, "What to list"]) -> Page[CatalogEntry]:
    """Everything of one kind that a spec may name."""
    return Page(data=_LISTS[kind](), has_more=False)


def _architectures() -> list[CatalogEntry]:
    return [
        CatalogEntry(
            name=entry.name,
            description=entry.source,
            schema=None,
            details={
                "family": entry.family,
                "minimum_size": entry.minimum_size,
                "input_size": entry.input_size,
                "fixed": entry.fixed,
                "tags": dict(entry.tags),
                "figures": vars(entry.figures),
                "small_stem": vars(entry.small_stem) if entry.small_stem else None,
            },
        )
        for entry in architectures().values()
    ]


def _methods() -> list[CatalogEntry]:
    return [
        CatalogEntry(name=name, description=(model.__doc__ or "").strip(), schema=model.model_json_schema())
        for name, model in METHODS.items()
    ]


def _datasets() -> list[CatalogEntry]:
    return [
        CatalogEntry(
            name=entry.name,
            description=f"{entry.title}. {entry.source}",
            schema=None,
            details={
                "classes": list(entry.classes),
                "shape": list(entry.shape),
                "train": entry.train,
                "test": entry.test,
                "validation": entry.validation,
                "mean": None if entry.mean is None else list(entry.mean),
                "std": None if entry.std is None else list(entry.std),
            },
        )
        for entry in DATASETS.values()
    ]


def _exports() -> list[CatalogEntry]:
    return [
        CatalogEntry(
            name="safetensors",
            description="Weights under their published names; always part of the bundle.",
            schema=None,
        )
    ]


_LISTS: dict[Kind, Callable[[], list[CatalogEntry]]] = {
    "architectures": _architectures,
    "methods": _methods,
    "datasets": _datasets,
    "exports": _exports,
}
