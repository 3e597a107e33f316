"""What the API's answers look like: one real example of each, for its description. A test holds them to the models."""

from __future__ import annotations

from typing import Any

_JOB = "job_01m8a1d6cs0er056s2019xe8n2"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_AT = "2026-11-25T09:30:00Z"
_SPEC: dict[str, Any] = {
    "name": "digits",
    "dataset": {"id": "digits"},
    "teacher": {"architecture": "resnet20"},
    "student": {"architecture": "resnet8"},
    "method": {"name": "kd", "temperature": 4.0},
    "training": {"epochs": 30, "optimizer": {"name": "adam"}},
}
_HEADLINE = {"top1": 0.961, "top5": 1.0, "loss": 0.141, "parameters": 77754, "flops": 1527040, "bytes": 318832}
_HEADLINE |= {"latency_ms": 0.41}
_FIELD_ERROR = {"pointer": "/method/temperature", "code": "greater_than", "message": "Input should be greater than 0"}

EXAMPLES: dict[str, Any] = {
    "ApiKey": {
        "id": "key_01m8a0z7v1c1k8r3q5h2n4t6w8",
        "name": "pipeline",
        "project": "default",
        "scopes": ["jobs:read", "jobs:write"],
        "prefix": "sk_Jx3k9",
        "created_at": _AT,
    },
    "Artifact": {
        "id": "art_01m8a1f0c2d4e6g8h0j2k4m6n8",
        "name": "student.safetensors",
        "bytes": 318832,
        "sha256": _SHA256,
        "media_type": "application/octet-stream",
    },
    "Attempt": {
        "n": 1,
        "worker": "gpu-7-4411",
        "host": "gpu-7",
        "devices": ["cuda:0"],
        "pid": 4502,
        "started_at": _AT,
        "ended_at": None,
        "exit": None,
        "reason": None,
        "resumed_from": None,
    },
    "CatalogEntry": {
        "name": "resnet20",
        "description": "He, Zhang, Ren, Sun (2016), section 4.2",
        "schema": None,
        "details": {"family": "resnet", "minimum_size": 4},
    },
    "Checkpoint": {
        "id": "ckpt_01m8a1e9k7n5p3r1t9v7x5z3b1",
        "attempt": 1,
        "phase": "student-0",
        "complete": False,
        "epoch": 12,
        "step": 7,
        "bytes": 954210,
        "sha256": _SHA256,
        "created_at": _AT,
    },
    "DryRun": {
        "spec": _SPEC,
        "warnings": [],
        "estimate": {
            "teacher_parameters": 275_000,
            "student_parameters": 77754,
            "teacher_flops": 5_200_000,
            "student_flops": 1527040,
            "memory_bytes": 6_400_000,
            "seconds": 41.5,
        },
        "admissible": True,
    },
    "Event": {
        "id": "evt_01m8a1dz4x6c8v0b2n4m6q8w0e",
        "job_id": _JOB,
        "seq": 4,
        "type": "job.stage_changed",
        "attempt": 1,
        "created_at": _AT,
        "data": {"stage": "training"},
    },
    "Job": {
        "id": _JOB,
        "name": "digits",
        "project": "default",
        "spec": _SPEC,
        "status": "succeeded",
        "terminal": True,
        "attempt": 1,
        "progress": {"fraction": 1.0, "epoch": 30, "epochs": 30, "eta_seconds": 0.0, "images_per_second": 5210.0},
        "result": {
            "teacher": _HEADLINE,
            "student": _HEADLINE,
            "control": _HEADLINE,
            "agreement": 0.97,
            "verdict": "No clear difference: the student is +0.00 points from its control.",
        },
        "created_at": _AT,
        "started_at": _AT,
        "finished_at": _AT,
    },
    "Metrics": {"data": {"student-0/train/loss": {"step": [20, 40], "time": [1.0, 2.0], "value": [1.9, 1.2]}}},
    "NewApiKey": {
        "id": "key_01m8a0z7v1c1k8r3q5h2n4t6w8",
        "key": "sk_…shown once…",
        "name": "pipeline",
        "project": "default",
        "scopes": ["jobs:read", "jobs:write"],
    },
    "Problem": {
        "title": "Invalid request",
        "status": 422,
        "detail": "/method/temperature: Input should be greater than 0",
        "code": "invalid_spec",
        "request_id": "req_01m8a1d6cs0er056s2019xe8n2",
        "errors": [_FIELD_ERROR],
    },
    "DataSet": {
        "id": "ds_01m8a2b4c6d8e0f2g4h6j8k0m2",
        "name": "hymenoptera",
        "project": "default",
        "state": "ready",
        "report": {"format": "imagefolder", "classes": {"ants": 123, "bees": 121}},
        "classes": ["ants", "bees"],
        "sha256": _SHA256,
        "bytes": 59_768_832,
        "upload": "upl_01m8a2a0b2c4d6e8f0g2h4j6k8",
        "created_at": _AT,
        "finished_at": _AT,
        "shape": [3, 224, 224],
        "splits": {"train": 244, "test": 153},
        "mean": [0.5, 0.48, 0.37],
        "std": [0.28, 0.27, 0.29],
    },
    "Model": {
        "id": "mdl_01m8a3b4c6d8e0f2g4h6j8k0m2",
        "name": "teacher",
        "project": "default",
        "state": "ready",
        "report": {"format": "torch", "wrappers": ["state_dict"]},
        "classes": ["ants", "bees"],
        "sha256": _SHA256,
        "bytes": 3_446_480,
        "upload": "upl_01m8a3a0b2c4d6e8f0g2h4j6k8",
        "created_at": _AT,
        "finished_at": _AT,
        "architecture": "resnet56",
        "input": {"shape": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "parameters": 861_620,
    },
    "Upload": {
        "id": "upl_01m8a2a0b2c4d6e8f0g2h4j6k8",
        "length": 47_286_322,
        "offset": 16_777_216,
        "created_at": _AT,
        "expires_at": "2026-11-26T09:30:00Z",
    },
    "Health": {"status": "ok"},
    "Readiness": {"ready": True, "parts": {"database": "ok", "disk": "ok"}},
}
"""By the name of the model."""
