"""Notifies people of a failed task: one line in the log, and to an Apprise URL where AIRLOOP_APPRISE_URL is set."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from airloop.keys import interval_of
from airloop.settings import AccessSettings, load

log = logging.getLogger(__name__)


def describe(context: Mapping[str, Any]) -> str:
    """What failed, for which interval, why, and where to read on: one line."""
    ti = context["ti"]
    reason = " ".join(str(context.get("exception") or "no reason was given").split())
    interval = interval_of(context) or "no interval"
    return f"Airloop: {ti.dag_id}.{ti.task_id} failed for {interval}: {reason} (log: {getattr(ti, 'log_url', 'none')})"


def report_failure(context: Mapping[str, Any]) -> None:
    """``on_failure_callback`` of every task; a notification that cannot be sent is logged, never raised."""
    line = describe(context)
    log.error(line)
    url = load(AccessSettings).apprise_url
    if not url:
        return
    try:
        import apprise  # only where a URL is set: it loads a hundred services
    except ModuleNotFoundError:
        log.error(  # noqa: TRY400 - the traceback would add nothing
            "AIRLOOP_APPRISE_URL is set, but the package apprise is not installed: add it to requirements/."
        )
        return

    service = apprise.Apprise()
    if not (service.add(url) and service.notify(title="Airloop", body=line)):
        # The URL holds a secret, so it is not named.
        log.error("The notification was not sent: check AIRLOOP_APPRISE_URL.")
