"""A child reads and writes by the folder it is in, since those above may be closed to its user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import TREE

PROGRAM = """
import os, sys
from pathlib import Path
import torch
from worker.engine import checkpoint
from worker.engine.data import ImageSet, RawDataset, mapping, store
from worker.engine.exports import EXPORTS
from worker.engine.network import Preprocessing, build_network
from worker.engine.weights import stored

shape = Preprocessing((1, 8, 8), (0.5,), (0.5,))
network = build_network(architecture="resnet8", classes=2, preprocessing=shape, seed=0)
images = ImageSet(torch.zeros(8, 1, 8, 8, dtype=torch.uint8), torch.arange(8) % 2)
raw = RawDataset("x", ("a", "b"), (0.5,), (0.5,), images, None)
os.chdir(sys.argv[1])
os.environ["TMPDIR"] = "."
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    Path.cwd().iterdir().__next__()
except PermissionError:
    pass
else:
    sys.exit("the folders above are open")
EXPORTS["safetensors"](network, Path("student.safetensors"))
described = stored.describe("resnet8", "standard", shape, ("a", "b"), parameters=1)
stored.save(Path("weights"), "model", dict(network.body.state_dict()), described)
assert stored.load(Path("weights"), "model").tensors
store.save(Path("dataset"), raw)
assert len(store.load(Path("dataset")).train) == 8
checkpoint.save(Path("x.pt"), {"step": 1})
assert checkpoint.load(Path("x.pt")) == {"step": 1}
assert mapping.mapped((2, 3), [torch.ones(1, 3, dtype=torch.uint8)] * 2).sum() == 6
print("all of it")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="closing a folder to a child takes root, which CI is")
def test_nothing_a_child_does_needs_the_folders_above_its_own(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    os.chown(inner, 65534, 65534)
    inner.parent.chmod(0o700)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TREE), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(inner)], env=environment, check=False, capture_output=True, text=True
    )
    assert (found.stdout.strip(), found.returncode) == ("all of it", 0), found.stderr
