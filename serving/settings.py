"""How the online service runs: AIRLOOP_ONLINE_* (and the admin token) from the environment, typed once."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every setting has a default that works on one machine."""

    model_config = SettingsConfigDict(env_prefix="AIRLOOP_ONLINE_", frozen=True, extra="ignore", env_ignore_empty=True)

    admin_token: str = Field("", validation_alias="AIRLOOP_ADMIN_TOKEN")
    """Bearer token of /-/sync; without one, only this machine may ask."""
    version: int | None = Field(None, ge=1)
    """Model version that this replica is for, whatever is promoted meanwhile; by default what the ledger says is live.

    The deploy act sets it in a Deployment's pods: those of the old version answer until those of the new one are ready.
    """
    poll_seconds: float = Field(2.0, gt=0)
    """Seconds between two looks at the store for a new model or month."""
    flush_seconds: float = Field(1.0, gt=0)
    """Longest time a prediction is only in memory before it is in the log; what a crash can lose."""
    max_flights: int = Field(1000, gt=0)
    """Largest number of flights in one request."""
    max_body_bytes: int = Field(1_000_000, gt=0)
    """Largest request body."""
