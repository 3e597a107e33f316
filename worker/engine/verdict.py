"""Whether distillation helped: the student against its control, by a test that fits how often it was tried."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from worker.engine.evaluate import Evaluation

_SIGNIFICANT = 0.05
_WORDS = {
    "better": "Distillation helped",
    "worse": "Distillation did harm",
    "no_difference": "No clear difference",
}


@dataclass(frozen=True)
class Verdict:
    """Whether the student is better than its control."""

    outcome: Literal["better", "worse", "no_difference"]
    difference: float
    """Of mean top-1, student less control."""
    p_value: float
    sentence: str


def verdict(students: Sequence[Evaluation], controls: Sequence[Evaluation], labels: Tensor) -> Verdict:
    """Student and control of one seed share weights and batches, so they are compared in pairs.

    One seed: McNemar's exact test (1947) on the images that one of the two alone gets right. Several seeds: Student's
    paired t-test over the seeds, since the spread between seeds is what a repetition would show; pooling their images
    would take each seed's luck for evidence.
    """
    difference = statistics.fmean(s.top1 for s in students) - statistics.fmean(c.top1 for c in controls)
    if len(students) == 1:
        p_value, how = _one_seed(students[0], controls[0], labels)
    else:
        p_value, how = _seeds(students, controls, labels)
    outcome: Literal["better", "worse", "no_difference"] = "no_difference"
    if p_value < _SIGNIFICANT:
        outcome = "better" if difference > 0 else "worse"
    side = "above" if difference > 0 else "below"
    gap = f"{abs(difference) * 100:.2f} points {side}" if difference else "level with"
    sentence = f"{_WORDS[outcome]}: the student is {gap} its control; {how}, p = {p_value:.3g}."
    return Verdict(outcome, difference, p_value, sentence)


def _one_seed(student: Evaluation, control: Evaluation, labels: Tensor) -> tuple[float, str]:
    from scipy.stats import binomtest  # noqa: PLC0415  # 0.6 s to import, and needed once, at the end

    won, lost = _alone(student, control, labels)
    p_value = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    how = f"it alone is right on {won} test images and the control alone on {lost}, exact McNemar test"
    return p_value, how


def _seeds(students: Sequence[Evaluation], controls: Sequence[Evaluation], labels: Tensor) -> tuple[float, str]:
    """A few seeds may agree by chance, so their spread is taken for no less than what the test images alone give.

    One seed's difference varies by (won + lost) / N^2 over draws of the N test images, when neither is better.
    """
    from scipy.stats import t as student_t  # noqa: PLC0415  # as above

    pairs = list(zip(students, controls, strict=True))
    differences = [student.top1 - control.top1 for student, control in pairs]
    by_images = statistics.fmean(sum(_alone(*pair, labels)) for pair in pairs) / len(labels) ** 2
    variance = max(statistics.variance(differences), by_images)
    how = (
        f"by seed {', '.join(f'{value * 100:+.2f}' for value in differences)}, paired t-test over {len(students)} seeds"
    )
    if variance == 0:
        return 1.0, how  # no image tells them apart
    statistic = abs(statistics.fmean(differences)) / (variance / len(pairs)) ** 0.5
    return float(2 * student_t.sf(statistic, len(pairs) - 1)), how


def _alone(student: Evaluation, control: Evaluation, labels: Tensor) -> tuple[int, int]:
    """Test images that the student alone, and that the control alone gets right."""
    right, control_right = student.predictions == labels, control.predictions == labels
    return int((right & ~control_right).sum()), int((control_right & ~right).sum())
