"""``stillhouse datasets`` and ``stillhouse models``."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from stillhouse.assets import DataSet, Model
from stillhouse.cli import exits
from stillhouse.cli.output import Json, err, out, print_json
from stillhouse.client import Client
from stillhouse.client.errors import ApiError, ConnectionFailed, NotFound
from stillhouse.spec.footprints import LOGITS

datasets = typer.Typer(no_args_is_help=True, help="Data sets of one's own.")
models = typer.Typer(no_args_is_help=True, help="Models of one's own.")

Asset = TypeVar("Asset", DataSet, Model)
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return before it is validated.")]
GoOn = Annotated[
    str | None, typer.Option("--upload", help="upl_…: go on with an upload that was cut, with the same file.")
]
STYLES = {"pending": "yellow", "validating": "cyan", "ready": "green", "rejected": "red"}


@datasets.command("upload")
def upload_dataset(
    path: Annotated[Path, typer.Argument(metavar="PATH", exists=True, help="An archive, or a folder to be packed.")],
    name: Annotated[str | None, typer.Option(help="By default the file's name.")] = None,
    image_size: Annotated[int | None, typer.Option(min=8, max=1024, help="Side at which images are kept.")] = None,
    upload: GoOn = None,
    *,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Send a data set in and have it validated: exit status 0 when it is ready, 1 when it is rejected.

    A folder is packed into a temporary tar first, its files in the order of their names and without dates.
    """
    with Client() as client, _packed(path) as file:
        sent = _send(client, file, upload)
        made = client.create_dataset(name=name or path.resolve().name, upload=sent, image_size=image_size)
        _finish(client, made, no_wait=no_wait, as_json=as_json)


@models.command("upload")
def upload_model(  # noqa: PLR0913, PLR0917  # each is a documented option
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="safetensors, a state dict, ONNX, or logits."),
    ],
    architecture: Annotated[
        str, typer.Option(help="A name of the catalog; onnx; or logits: a row of outputs for each training image.")
    ],
    classes: Annotated[str, typer.Option(help="Names in the order of the outputs, by commas; or how many.")],
    mean: Annotated[str | None, typer.Option(help="Of each channel, by commas, for pixels from 0 to 1.")] = None,
    std: Annotated[str | None, typer.Option(help="Of each channel, by commas, for pixels from 0 to 1.")] = None,
    input_size: Annotated[
        int | None, typer.Option(min=4, max=1024, help="Side of the images it was trained on.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="By default the file's name.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Measure its accuracy on this data set: a name or ds_….")] = None,
    upload: GoOn = None,
    *,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Send a model in and have it validated: exit status 0 when it is ready, 1 when it is rejected.

    --mean, --std and --input-size are needed of every network, and left out of logits.
    """
    given = {"mean": _numbers("--mean", mean), "std": _numbers("--std", std), "input_size": input_size}
    if architecture != LOGITS:
        for option, value in given.items():
            if value is None:
                raise typer.BadParameter("needed of every network", param_hint=f"--{option.replace('_', '-')}")
    declared: dict[str, Any] = {"architecture": architecture, "classes": _class_names(classes)}
    declared |= {option: value for option, value in {**given, "dataset": dataset}.items() if value is not None}
    with Client() as client:
        sent = _send(client, file, upload)
        made = client.create_model(name=name or file.name, upload=sent, **declared)
        _finish(client, made, no_wait=no_wait, as_json=as_json)


@datasets.command("list")
def list_datasets(*, as_json: Json = False) -> None:
    """The project's data sets, newest first."""
    with Client() as client:
        _list(list(client.datasets()), as_json=as_json)


@models.command("list")
def list_models(*, as_json: Json = False) -> None:
    """The project's models, newest first."""
    with Client() as client:
        _list(list(client.models()), as_json=as_json)


@datasets.command("show")
def show_dataset(
    dataset_id: Annotated[str, typer.Argument(metavar="ID", help="ds_…")], *, as_json: Json = False
) -> None:
    """A data set with its report."""
    with Client() as client:
        _show(client.dataset(dataset_id), as_json=as_json)


@models.command("show")
def show_model(model_id: Annotated[str, typer.Argument(metavar="ID", help="mdl_…")], *, as_json: Json = False) -> None:
    """A model with its report."""
    with Client() as client:
        _show(client.model(model_id), as_json=as_json)


@contextmanager
def _packed(path: Path) -> Iterator[Path]:
    """The file itself, or a temporary tar of the folder. The tar of the same files has the same bytes."""
    if path.is_file():
        yield path
        return
    files = sorted(found for found in path.rglob("*") if found.is_file())
    if not files:
        raise exits.CommandError(f"the folder {path} holds no file", exits.USAGE)
    with tempfile.TemporaryDirectory(prefix="stillhouse-") as folder:
        packed = Path(folder) / f"{path.resolve().name}.tar"
        err.print(f"packing {path} into a temporary tar", highlight=False)
        with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as archive:
            for file in files:
                info = tarfile.TarInfo(file.relative_to(path).as_posix())
                info.size = file.stat().st_size
                with file.open("rb") as content:
                    archive.addfile(info, content)
        yield packed


def _send(client: Client, file: Path, upload_id: str | None) -> str:
    """Send a file, with a bar where stderr is a terminal. When it is cut for good, it says how to go on."""
    sending = upload_id or client.begin_upload(file)
    columns = (TextColumn("sending"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        with Progress(*columns, console=err, disable=not err.is_terminal) as bars:
            bar = bars.add_task("", total=file.stat().st_size)
            client.upload(file, upload_id=sending, on_progress=lambda at, _total: bars.update(bar, completed=at))
    except NotFound:
        raise
    except (ApiError, ConnectionFailed, KeyboardInterrupt):
        err.print(f"what has arrived is kept for a day; go on with --upload {sending}", highlight=False)
        raise
    err.print(f"sent {file.stat().st_size:,} bytes as {sending}", highlight=False)
    return sending


def _finish(client: Client, made: DataSet | Model, *, no_wait: bool, as_json: bool) -> None:
    try:
        made = made if no_wait else client.wait_for(made.id)
    except KeyboardInterrupt:
        err.print(f"the validation of {made.id} goes on", highlight=False)
        raise typer.Exit(exits.INTERRUPTED) from None
    _show(made, as_json=as_json)
    if made.state == "rejected":
        raise typer.Exit(exits.FAILED)


def _list(found: list[Asset], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True)
    for heading in ("name", "state", "classes", "bytes"):
        table.add_column(heading)
    for row in found:
        state = f"[{STYLES[row.state]}]{row.state}[/]"
        table.add_row(row.id, escape(row.name), state, str(len(row.classes or [])), f"{row.bytes:,}")
    out.print(table)


def _show(shown: DataSet | Model, *, as_json: bool) -> None:
    if as_json:
        print_json(shown)
        return
    report = shown.report or {}
    rows = [("id", shown.id), ("name", shown.name), ("state", f"[{STYLES[shown.state]}]{shown.state}[/]")]
    rows += [("problem", problem) for problem in report.get("problems", [])]
    if isinstance(shown, DataSet) and shown.shape:
        rows += [("images", "x".join(map(str, shown.shape)))]
        rows += [(split, f"{count:,}") for split, count in (shown.splits or {}).items()]
    if isinstance(shown, Model):
        rows += [("architecture", shown.architecture)]
        rows += [("parameters", f"{shown.parameters:,}")] if shown.parameters else []
        rows += [("accuracy", _accuracy(report["accuracy"]))] if "accuracy" in report else []
        rows += [(f"rows of {split}", f"{count:,}") for split, count in (shown.rows or {}).items()]
    rows += [("classes", str(len(shown.classes)))] if shown.classes else []
    rows += [("note", note) for note in report.get("notes", [])]
    rows += [("warning", warning) for warning in report.get("warnings", [])]
    corrupt = report.get("corrupt", {"count": 0, "files": []})
    rows += [("unreadable", f"{item['file']}: {item['problem']}") for item in corrupt["files"][:10]]
    if corrupt["count"] > 10:
        rows.append(("unreadable", f"… {corrupt['count']:,} files in all"))
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(f"[bold]{name}[/]", value if name == "state" else escape(value))
    out.print(table)


def _accuracy(found: dict[str, Any]) -> str:
    shares = ", ".join(f"{name} {found[name]:.2%}" for name in ("top1", "top5"))
    return f"{shares} of {found['images']:,} {found['split']} images of {found['dataset']}"


def _class_names(text: str) -> list[str]:
    if text.isascii() and text.isdigit():
        return [str(number) for number in range(int(text))]
    return [name.strip() for name in text.split(",")]


def _numbers(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"numbers separated by commas are needed, not {text!r}", param_hint=option) from error
