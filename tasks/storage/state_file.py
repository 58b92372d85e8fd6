"""A file of the online service's state, as records name it."""

from __future__ import annotations

from tasks.core.frozen import Frozen


class StateFile(Frozen):
    """One file of the online service's state."""

    name: str
    """Name in the store."""
    sha256: str
