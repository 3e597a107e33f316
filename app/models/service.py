"""What can be done to models; the rest is ``app.assets``."""

from __future__ import annotations

from app.assets import Assets
from app.tables import Model

MODELS = Assets(Model, "mdl", "model")
