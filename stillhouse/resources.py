"""What the REST API answers with: the server's response models, and what the client returns."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from stillhouse.spec import JobSpec, Status

Item = TypeVar("Item")


class Resource(BaseModel):
    """Open to fields of a newer server, so that an older client goes on working."""

    model_config = ConfigDict(extra="ignore")


class Page(Resource, Generic[Item]):
    """One page of a collection; pass ``next_cursor`` as ``cursor`` for the next."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    next_cursor: str | None = None


class Progress(Resource):
    """How far a job is, over all its stages."""

    fraction: float = Field(0.0, ge=0, le=1)
    epoch: int = Field(0, description="Of the stage that is running.")
    epochs: int = 0
    eta_seconds: float | None = None
    images_per_second: float | None = None


class Headline(Resource):
    """One network on the test split, computed in fp32."""

    top1: float = Field(description="0 to 1; the mean over seeds.")
    top5: float
    loss: float
    top1_deviation: float | None = Field(None, description="Standard deviation over seeds; null for one seed.")
    parameters: int
    flops: int = Field(description="For one image; a multiply-add counts as two.")
    bytes: int = Field(description="Of its weights as safetensors.")
    latency_ms: float = Field(description="Median of one image at a time on the worker's device.")


class TeacherHeadline(Resource):
    """The teacher on the test split, in fp32; null is what cannot be known of a teacher that is a file."""

    top1: float | None = Field(description="0 to 1. Null where a file of logits says nothing of the test split.")
    top5: float | None = None
    loss: float | None = None
    top1_deviation: float | None = None
    parameters: int | None = Field(description="Null of a file of logits.")
    flops: int | None = Field(description="For one image; null of an ONNX file and of a file of logits.")
    bytes: int = Field(description="Of its weights as safetensors; of an ONNX file or logits, the file.")
    latency_ms: float | None = Field(description="Null of a file of logits.")


class Result(Resource):
    """The comparison a finished job comes to."""

    teacher: TeacherHeadline | None = None
    student: Headline
    control: Headline | None = None
    agreement: float | None = Field(
        None, description="Share of test images on which student and teacher name the same class."
    )
    verdict: str = Field(description="Whether distillation helped, in one sentence, by a paired test.")


class Job(Resource):
    """A job as it stands."""

    object: Literal["job"] = "job"
    id: str
    name: str
    project: str
    spec: JobSpec
    status: Status
    stage: str | None = None
    status_reason: str | None = None
    status_detail: str | None = None
    terminal: bool
    attempt: int
    progress: Progress
    result: Result | None = None
    retry_of: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    warnings: list[str] = Field([], description="Of a job that waits: what keeps it from being taken now.")


class Event(Resource):
    """One thing that happened to a job. ``seq`` counts from 1 without a gap."""

    object: Literal["event"] = "event"
    id: str
    job_id: str
    seq: int
    type: str
    attempt: int
    created_at: datetime
    data: dict[str, Any]


class Attempt(Resource):
    """One try at a job by one worker."""

    object: Literal["attempt"] = "attempt"
    n: int
    worker: str
    host: str
    devices: list[str]
    pid: int | None = Field(None, description="Of the training child, as the host counts.")
    started_at: datetime
    ended_at: datetime | None = None
    exit: int | None = Field(None, description="Exit status of the child; negative is the signal that ended it.")
    reason: str | None = None
    resumed_from: str | None = Field(None, description="Id of the checkpoint it went on from.")


class Checkpoint(Resource):
    """A state a job can go on from."""

    object: Literal["checkpoint"] = "checkpoint"
    id: str
    attempt: int
    phase: str = Field(description="What was being trained: teacher, student-0, control-0, ...")
    complete: bool = Field(description="Whether that phase had ended.")
    epoch: int
    step: int
    bytes: int
    sha256: str
    created_at: datetime


class Artifact(Resource):
    """A file of the finished job."""

    object: Literal["artifact"] = "artifact"
    id: str
    name: str
    bytes: int
    sha256: str
    media_type: str


class Series(Resource):
    """One metric in columns."""

    step: list[int]
    time: list[float] = Field(description="Unix seconds.")
    value: list[float | None]


class Metrics(Resource):
    """The metrics of a job, down-sampled to the smallest and largest value of each bucket."""

    object: Literal["metrics"] = "metrics"
    data: dict[str, Series]


class Estimate(Resource):
    """What a job would take. ``seconds`` is null until a job like it has run."""

    teacher_parameters: int | None
    student_parameters: int | None
    teacher_flops: int | None
    student_flops: int | None
    memory_bytes: int | None = Field(description="Null where the parameters are not known before training.")
    seconds: float | None


class DryRun(Resource):
    """The answer to a dry run: nothing was stored."""

    object: Literal["dry_run"] = "dry_run"
    spec: JobSpec
    warnings: list[str]
    estimate: Estimate
    feature_points: dict[Literal["student", "teacher"], dict[str, list[int] | None]] = Field(
        default={},
        description="What the method reads of each network: module paths and shapes of one sample, null where unknown.",
    )
    admissible: bool


class ApiKey(Resource):
    """An API key without its secret."""

    object: Literal["api_key"] = "api_key"
    id: str
    name: str
    project: str
    scopes: list[str]
    prefix: str
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class NewApiKey(Resource):
    """An API key as it is shown once."""

    id: str
    key: str
    name: str
    project: str
    scopes: list[str]


class CatalogEntry(Resource):
    """Something a spec may name."""

    object: Literal["catalog_entry"] = "catalog_entry"
    name: str
    description: str
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="JSON Schema of its fields.")
    details: dict[str, Any] = {}


class FieldError(Resource):
    """What is wrong with one field."""

    pointer: str = Field(description="RFC 6901 pointer into the request body.")
    code: str
    message: str


class Problem(Resource):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldError] = []
