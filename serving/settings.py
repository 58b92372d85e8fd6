"""How the online service runs: AIRLOOP_ONLINE_* (and the admin token) from the environment, typed once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every setting has a default that works on one machine."""

    model_config = SettingsConfigDict(
        env_prefix="AIRLOOP_ONLINE_", env_nested_delimiter="__", frozen=True, extra="ignore", env_ignore_empty=True
    )

    admin_token: str = Field("", validation_alias="AIRLOOP_ADMIN_TOKEN")
    """Bearer token of /-/sync; without one, only this machine may ask."""
    models: str = ""
    """Models that this process serves, separated by commas; by default every folder of models/."""
    version: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Version of a model that this replica is for (AIRLOOP_ONLINE_VERSION__<MODEL>), whatever is promoted meanwhile; by default
    what the ledger says is live.

    The job deploy sets it in a Deployment's pods: those of the old version answer until those of the new one are ready.
    """
    poll_seconds: float = Field(2.0, gt=0)
    """Seconds between two looks at the store for a new model or interval."""
    flush_seconds: float = Field(1.0, gt=0)
    """Longest time a prediction is only in memory before it is in the log; what a crash can lose."""
    max_rows: int = Field(1000, gt=0)
    """Largest number of rows to predict in one request."""
    max_body_bytes: int = Field(1_000_000, gt=0)
    """Largest request body."""
