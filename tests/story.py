"""Files marked `story`: each test starts where the one before ended, so after the first failure none of the rest can say anything.

They fail at once, by the name of the one that did, in place of waiting for what cannot come.
"""

from __future__ import annotations

import pytest

FAILED = pytest.StashKey[str]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    """Keep the name of the first test of a story that failed."""
    report = yield
    if report.failed and item.get_closest_marker("story"):
        _file(item).stash.setdefault(FAILED, item.name)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail before any fixture is made."""
    if item.get_closest_marker("story") and (first := _file(item).stash.get(FAILED, None)):
        pytest.fail(f"not run: the story ended with the failure of {first}", pytrace=False)


def _file(item: pytest.Item) -> pytest.Module:
    found = item.getparent(pytest.Module)
    assert found is not None, item.nodeid
    return found
