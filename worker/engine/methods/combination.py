"""Several methods at once, such as fitnet with kd: the terms of each, times its weight."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from worker.engine.errors import MethodRefused
from worker.engine.method import Batch, Host, Method, Outputs, Setting


class Combination(Method):
    """``parts`` as (name, weight, method); a term's name is its method's and its own. Cross-entropies add up."""

    def __init__(self, parts: Sequence[tuple[str, float, Method]]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: part for name, _, part in parts})
        if len(self.parts) < len(parts):
            raise MethodRefused("a method is listed twice.", remedy="List each method once, with one weight.")
        self.weights = {name: weight for name, weight, _ in parts}
        self.needs_teacher = any(part.needs_teacher for _, _, part in parts)
        self.mixes_images = any(part.mixes_images for _, _, part in parts)
        self.strong_view = any(part.strong_view for _, _, part in parts)
        self.relational = any(part.relational for _, _, part in parts)
        self.taps = tuple(dict.fromkeys(tap for _, _, part in parts for tap in part.taps))

    @property
    def named(self) -> list[tuple[str, Method]]:
        """The parts by name."""
        return [(name, part) for name, part in self.parts.items() if isinstance(part, Method)]

    def adapt(self, student: Host, teacher: Host | None) -> list[str]:
        return [warning for _, part in self.named for warning in part.adapt(student, teacher)]

    def prepare(self, setting: Setting) -> list[str]:
        for name, part in self.named:
            if len(self.named) > 1 and type(part).view is not Method.view:
                message = f"{name} mixes the images, so that the other methods' labels would not be theirs."
                raise MethodRefused(message, remedy=f"Use {name} alone.")
        return [warning for _, part in self.named for warning in part.prepare(setting)]

    def view(self, images: Tensor, batch: Batch) -> Tensor:
        for _, part in self.named:
            images = part.view(images, batch)
        return images

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        return {
            f"{name}_{term}": self.weights[name] * loss
            for name, part in self.named
            for term, loss in part(student, teacher, batch).items()
        }
