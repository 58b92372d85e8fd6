"""Its settings."""

from __future__ import annotations

from tasks.common.frozen import Frozen


class ParcelFeatures(Frozen):
    heavy_grams: int


SECTIONS = {"features": ParcelFeatures}
