"""The online service as the job deploy reaches it: services by their URLs, or a Deployment on Kubernetes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tasks.core.errors import AirloopError, ConfigError, Unavailable
from tasks.registry.ledger import Entry
from tasks.settings.environment import environment

REFUSED = 65
"""Exit code of a replica that can never serve the version it is for (sysexits' EX_DATAERR)."""
Check = Callable[[], None]
"""Raises SupersededError when the entry that is waited for is not the newest any more: each wait calls it again and again."""


class NotServedError(AirloopError):
    """Evidence about this version: another one answers in its place. A reason to take it back, and none against it."""

    itself = False
    """Whether the version itself is wrong, so that it is not promoted again."""


class FaultyError(NotServedError):
    """Evidence against this version: a golden row was answered otherwise, or a replica refuses the version by name."""

    itself = True


class AwayError(Unavailable):
    """The answer, or the lack of one, is no evidence about the version. Never a reason to take it back."""


class Online(Protocol):
    """One way to reach the online service."""

    @property
    def urls(self) -> Sequence[str]:
        """Where it answers, each to be tried with golden rows."""

    @property
    def patience(self) -> float:
        """Seconds in which an address may still answer with what was live before."""

    def put_live(self, entry: Entry, check: Check) -> list[str]:
        """Return once every replica serves ``entry``: what had to be done, in words.

        An entry that takes everything out of service is not waited for: replicas see it in the ledger.

        Args:
            entry: the ledger's newest.
            check: whether it still is.

        Raises:
            NotServedError: they do not come to serve it, and say so.
            AwayError: they, or the cluster, were away for too long.
            SupersededError: what ``check`` raises.
        """


def service() -> Online | None:
    """The online service that the environment names; None when there is none to reconcile."""
    where = environment()
    host = where.model.replace("_", "-")  # no name of a host or a Deployment has an underscore
    addresses = where.online_url.replace("{model}", host)
    urls = [url for part in addresses.split(",") if (url := part.strip().rstrip("/"))]
    if where.online_deployment:
        from tasks.online.deployment import Deployment

        namespace, _, name = where.online_deployment.replace("{model}", host).partition("/")
        if not (namespace and name) or "/" in name or len(urls) != 1:
            raise ConfigError(
                f"AIRLOOP_ONLINE_DEPLOYMENT={where.online_deployment!r} with AIRLOOP_ONLINE_URL={where.online_url!r}: the first "
                "is written as namespace/name, and the second is the one URL of its Service."
            )
        return Deployment(where.model, namespace, name, urls[0])
    from tasks.online.replicas import Replicas

    return Replicas(where.model, urls) if urls else None
