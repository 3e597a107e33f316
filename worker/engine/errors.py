"""What can go wrong in a training, each with a reason code and what to do about it.

EngineError
├── NonFiniteLoss        nan_loss
├── Diverged             diverged
├── TeacherMismatch      teacher_mismatch
├── ArchitectureError    bad_architecture
├── EmptySplit           bad_dataset
├── UnusableUpload       bad_dataset: told in the report of a validation, never the end of a job
├── PrecisionUnavailable unsupported_precision
├── MethodRefused        method_refused
├── OutOfMemory          out_of_memory
├── WeightsRefused       bad_weights
├── HardwareUnsuited     unsupported_hardware
├── RankLost             worker_lost
└── CanaryFailed         canary_failed
"""

from __future__ import annotations


class EngineError(Exception):
    """An end that has a cause; ``str()`` says what happened, ``remedy`` what to do."""

    reason = "internal"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class NonFiniteLoss(EngineError):
    """The loss became NaN or infinite."""

    reason = "nan_loss"


class Diverged(EngineError):
    """The loss is finite, and beyond all measure."""

    reason = "diverged"


class TeacherMismatch(EngineError):
    """The teacher knows too little of this data to teach."""

    reason = "teacher_mismatch"


class ArchitectureError(EngineError):
    """A network that cannot be built for this input."""

    reason = "bad_architecture"


class EmptySplit(EngineError):
    """A fraction that leaves a split, or a class of it, empty."""

    reason = "bad_dataset"


class UnusableUpload(EngineError):
    """A file from outside that nothing can be made of."""

    reason = "bad_dataset"


class PrecisionUnavailable(EngineError):
    """This hardware cannot compute in the precision asked for."""

    reason = "unsupported_precision"


class MethodRefused(EngineError):
    """A method that cannot work with this data or these networks."""

    reason = "method_refused"


class OutOfMemory(EngineError):
    """A step that needs more memory than there is."""

    reason = "out_of_memory"

    def __init__(self, message: str, *, fits: int | None) -> None:
        super().__init__(message, remedy=self.advice("batch_size", fits))
        self.fits = fits

    @staticmethod
    def advice(field: str, fits: int | None) -> str:
        """What to do, where ``field`` of the spec is the batch's size and ``fits`` images would have fitted."""
        if fits is None:
            return "Not even a step of 2 images fits: use a smaller network, or a smaller input_size."
        return f"Set {field} to {fits}: that fits with room to spare."


class WeightsRefused(EngineError):
    """A file of weights, or of a network, that is not opened, or that does not fit."""

    reason = "bad_weights"


class HardwareUnsuited(EngineError):
    """This worker's devices cannot do what was asked for."""

    reason = "unsupported_hardware"


class RankLost(EngineError):
    """Of several processes that train together, another one is gone."""

    reason = "worker_lost"


class CanaryFailed(EngineError):
    """A check of the training itself failed: it would have run, and been wrong."""

    reason = "canary_failed"
