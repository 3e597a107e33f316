"""The losses once more, in float64 numpy, written from the formulas: no line of the engine's, no autograd.

Each takes a dict of the student's arrays and one of the teacher's (``logits`` and feature points), and labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]


def log_softmax(z: np.ndarray) -> np.ndarray:
    shifted = z - z.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def softmax(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(log_softmax(z)))


def ce(s: Arrays, labels: np.ndarray) -> float:
    return float(-log_softmax(s["logits"])[np.arange(len(labels)), labels].mean())


def kl(z: np.ndarray, t: np.ndarray, temperature: float) -> float:
    """T^2 sum p_t log(p_t / p_s), mean over the batch."""
    ours, theirs = log_softmax(z / temperature), log_softmax(t / temperature)
    return float(temperature**2 * (np.exp(theirs) * (theirs - ours)).sum(axis=1).mean())


def zscore(z: np.ndarray) -> np.ndarray:
    return np.asarray((z - z.mean(axis=1, keepdims=True)) / (z.std(axis=1, ddof=1, keepdims=True) + 1e-7))


def without(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.stack([np.delete(row, label) for row, label in zip(z, labels, strict=True)])


def tckd(z: np.ndarray, t: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """The divergence of the pair (p_y, 1 - p_y)."""
    rows = np.arange(len(labels))
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        p, q = softmax(t[row] / temperature)[label], softmax(z[row] / temperature)[label]
        total += p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return float(temperature**2 * total / len(rows))


def nkd(s: Arrays, t: Arrays, labels: np.ndarray, temperature: float) -> tuple[float, float]:
    rows = np.arange(len(labels))
    target = -(softmax(t["logits"])[rows, labels] * log_softmax(s["logits"])[rows, labels]).mean()
    ours, theirs = (without(x["logits"], labels) / temperature for x in (s, t))
    rest = -(softmax(theirs) * log_softmax(ours)).sum(axis=1).mean() * temperature**2
    return float(target), float(rest)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (np.sqrt((a * a).sum()) * np.sqrt((b * b).sum()) + 1e-8))


def dist(z: np.ndarray, t: np.ndarray, temperature: float) -> tuple[float, float]:
    ours, theirs = softmax(z / temperature), softmax(t / temperature)
    inter = 1 - np.mean([pearson(*rows) for rows in zip(ours, theirs, strict=True)])
    intra = 1 - np.mean([pearson(*columns) for columns in zip(ours.T, theirs.T, strict=True)])
    return float(temperature**2 * inter), float(temperature**2 * intra)


def mlkd(z: np.ndarray, t: np.ndarray, temperatures: tuple[float, ...]) -> tuple[float, float, float]:
    instance = batch = classes = 0.0
    for temperature in temperatures:
        p, q = softmax(z / temperature), softmax(t / temperature)
        instance += kl(z, t, temperature)
        batch += sum((p[i] @ p[j] - q[i] @ q[j]) ** 2 for i in range(len(p)) for j in range(len(p))) / len(p)
        width = p.shape[1]
        classes += sum((p[:, i] @ p[:, j] - q[:, i] @ q[:, j]) ** 2 for i in range(width) for j in range(width)) / width
    return instance, float(batch), float(classes)


def ofa(z: np.ndarray, t: np.ndarray, labels: np.ndarray, exponent: float, temperature: float) -> float:
    hot = np.eye(z.shape[1])[labels]
    wanted = (softmax(t / temperature) + hot) ** exponent - hot
    return float(-(wanted * log_softmax(z / temperature)).sum(axis=1).mean() * temperature**2)


def attention(maps: np.ndarray) -> np.ndarray:
    flat = (maps**2).mean(axis=1).reshape(len(maps), -1)
    return np.asarray(flat / np.sqrt((flat**2).sum(axis=1, keepdims=True)))


def pool(maps: np.ndarray, side: int) -> np.ndarray:
    batch, channels, height, width = maps.shape
    windows = maps.reshape(batch, channels, side, height // side, side, width // side)
    return np.asarray(windows.mean(axis=(3, 5)))


def at(s: Arrays, t: Arrays, pairs: list[tuple[str, str]]) -> float:
    total = 0.0
    for ours, theirs in pairs:
        side = min(s[ours].shape[2], t[theirs].shape[2])
        total += ((attention(pool(s[ours], side)) - attention(pool(t[theirs], side))) ** 2).mean()
    return total


def sp(s: np.ndarray, t: np.ndarray) -> float:
    def gram(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(len(values), -1)
        likeness = flat @ flat.T
        return np.asarray(likeness / np.sqrt((likeness**2).sum(axis=1, keepdims=True)))

    return float(((gram(s) - gram(t)) ** 2).sum() / len(s) ** 2)


def huber(x: np.ndarray) -> float:
    return float(np.where(np.abs(x) < 1, 0.5 * x**2, np.abs(x) - 0.5).mean())


def rkd(s: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    def spread(v: np.ndarray) -> np.ndarray:
        found = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in v] for a in v])
        return np.asarray(found / found[found > 0].mean())

    def corners(v: np.ndarray) -> np.ndarray:
        n = len(v)
        found = np.zeros((n, n, n))
        for i in range(n):
            for j in range(n):
                for k in range(n):
                    if i not in (j, k):
                        a, b = v[j] - v[i], v[k] - v[i]
                        found[i, j, k] = a @ b / np.sqrt((a @ a) * (b @ b))
        return found

    return huber(spread(s) - spread(t)), huber(corners(s) - corners(t))


def pkt(s: np.ndarray, t: np.ndarray) -> float:
    def near(v: np.ndarray) -> np.ndarray:
        v = v / np.sqrt((v**2).sum(axis=1, keepdims=True))
        likeness = (v @ v.T + 1) / 2
        return np.asarray(likeness / likeness.sum(axis=1, keepdims=True))

    p, q = near(t), near(s)
    return float((p * np.log((p + 1e-7) / (q + 1e-7))).mean())


def gradient(loss: Callable[[dict[str, np.ndarray]], float], at_: Arrays, name: str) -> np.ndarray:
    """Of ``loss`` by central differences of fourth order."""
    found = np.zeros_like(at_[name])
    step = 1e-4
    for place in np.ndindex(found.shape):
        values = []
        for shift in (-2, -1, 1, 2):
            moved: dict[str, Any] = dict(at_)
            moved[name] = at_[name].copy()
            moved[name][place] += shift * step
            values.append(loss(moved))
        found[place] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    return found
