"""What can be done to data sets; the rest is ``app.assets``."""

from __future__ import annotations

from app.assets import Assets
from app.tables import DataSet

DATASETS = Assets(DataSet, "ds", "data set")
