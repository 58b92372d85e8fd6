"""One environment at a time: its rendered objects, and Airflow's values with them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kubernetes.airflow_values import values_of
from tests.kubernetes.environment import Environment
from tests.kubernetes.kustomize import OVERLAYS, ROOT, render


@pytest.fixture(scope="session", params=OVERLAYS)
def environment(request: pytest.FixtureRequest) -> Environment:
    return Environment(request.param, render(ROOT / "overlays" / request.param))


@pytest.fixture
def values(environment: Environment) -> dict[str, Any]:
    return values_of(environment.name)
