"""``python -m benchmarks.waiting``: what threads that spin while they wait cost, alone and beside other work."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

from worker.engine.network import Preprocessing, build_network

_BATCH, _STEPS, _WARM_UP = 64, 150, 20


def main() -> int:
    """Print images per second by policy and by how many such processes run at once."""
    if sys.argv[1:] == ["train"]:
        print(f"{_rate():,.0f}")
        return 0
    for at_once in (1, 2, 4):
        for policy in (None, "PASSIVE"):
            environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
            environment |= {"OMP_WAIT_POLICY": policy} if policy is not None else {}
            command = [sys.executable, "-m", "benchmarks.waiting", "train"]
            running = [
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(at_once)
            ]
            rates = [process.communicate()[0].strip() for process in running]
            print(f"{at_once} at once, {policy or 'by default'}: {', '.join(rates)} images/s", flush=True)
    return 0


def _rate() -> float:
    torch.set_num_threads(2)
    preprocessing = Preprocessing((1, 28, 28), (0.5,), (0.5,))
    network = build_network(architecture="lenet5", classes=10, preprocessing=preprocessing, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    images, labels = torch.rand(_BATCH, 1, 28, 28), torch.randint(0, 10, (_BATCH,))
    began = 0.0
    for step in range(_WARM_UP + _STEPS):
        if step == _WARM_UP:
            began = time.perf_counter()
        loss = F.cross_entropy(network(images).logits, labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return _BATCH * _STEPS / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
