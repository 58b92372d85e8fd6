"""Why a test may be skipped, and what runs it all the same. A skip for any other reason is a failure.

Set AIRLOOP_TEST_ALL=1 where everything that a test needs was installed: then no skip is allowed (the nightly workflow).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable

import pytest

RUN_BY = {
    r"set AIRLOOP_TEST_IMAGES=1 ": "nightly: images",
    r"set AIRLOOP_TEST_COMPOSE=1 ": "nightly: compose",
    r"no docker engine answers": "nightly: images, compose",
    r"no docker command here": "nightly: tools",
    r"(this docker command has no|there is no docker command with a) compose plugin": "nightly: tools",
    r"there is no haproxy here": "nightly: tools",
    r"there is no promtool here": "nightly: tools",
    r"neither kubectl nor kustomize is on the PATH": "nightly: tools",
    r"no cluster was given": "nightly: cluster",
    r"kubectl is not installed": "nightly: cluster",
    r"this environment has no S3 packages": "nightly: cluster",
    r"no S3 store was given": "nightly: cluster",
    r"the train image has no PyTorch": "nightly: cluster",
    r"only root may mount a small disk": "ci: test",
    r"this environment was not made by `make setup`": "ci: test",
}
"""How a reason begins, and the workflow and its jobs that run what is skipped for it."""


def run_by(reason: str) -> str | None:
    """The workflow and jobs that run what is skipped for ``reason``; None for a reason that the table lacks."""
    return next((jobs for begins, jobs in RUN_BY.items() if re.match(begins, reason)), None)


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """Why ``report`` is a skip; None when it is none, or an expected failure."""
    if not report.skipped or hasattr(report, "wasxfail") or not isinstance(report.longrepr, tuple):
        return None
    return report.longrepr[2].removeprefix("Skipped: ")


def judge(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skip that is not allowed."""
    reason = reason_of(report)
    if reason is None:
        return
    if os.environ.get("AIRLOOP_TEST_ALL"):
        report.longrepr = f"Skipped though AIRLOOP_TEST_ALL=1 forbids it: {reason}"
    elif run_by(reason) is None:
        report.longrepr = (
            f"Skipped for a reason that tests/skips.py lacks: {reason}\nSay there what runs the test all the same."
        )
    else:
        return
    report.outcome = "failed"


def table(reports: Iterable[pytest.TestReport | pytest.CollectReport]) -> list[str]:
    """Lines: how many tests were skipped for each reason, and what runs them."""
    counts = Counter(reason for report in reports if (reason := reason_of(report)))
    return [f"{count:5}  {run_by(reason) or '-':26} {reason}" for reason, count in counts.most_common()]
