"""The training of a spec as a library call in one process: no service, no checkpoints, no events written."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from stillhouse.spec import JobSpec
from worker.assembly import TABLE, build_run
from worker.bundle import write_bundle
from worker.devices import hold
from worker.engine.data import store
from worker.engine.data.split import split_dataset
from worker.engine.distill import distill
from worker.engine.network import Network
from worker.engine.precision import resolve
from worker.engine.run import Run
from worker.phases import phases
from worker.sandbox import Protections


def main() -> None:
    """Print the seconds of the training, from the moment that the data are loaded."""
    spec = JobSpec.model_validate(json.loads(sys.argv[2]))
    device = hold({"device": "cpu", "threads": torch.get_num_threads()}, 0)
    precision = resolve(spec.training.precision, device)
    dataset = split_dataset(store.load(Path(sys.argv[1])), validation=spec.dataset.validation, seed=spec.training.seed)
    began = time.monotonic()
    folder = tempfile.TemporaryDirectory()
    os.chdir(folder.name)  # where the view table is looked for, as a child's folder is
    TABLE.parent.mkdir()
    runs: dict[str, Run] = {}
    teacher: Network | None = None
    for phase in phases(spec):
        run = build_run(spec, phase, dataset, teacher=teacher, device=device, precision=precision, table_limit=2**30)
        for _ in distill(run):
            pass
        run.student.body.load_state_dict(run.result_state())
        runs[phase.name] = run
        teacher = teacher or run.student
    settled = {"device": "cpu", "precision": precision.name, "threads": torch.get_num_threads()}
    write_bundle(
        Path(),
        spec=spec,
        dataset=dataset,
        runs=runs,
        networks={name: run.student for name, run in runs.items()},
        settled=settled,
        protections=Protections(),
        on_stage=lambda _stage: None,
        alive=lambda: None,
    )
    print(time.monotonic() - began)


if __name__ == "__main__":
    main()
