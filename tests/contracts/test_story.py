"""A story ends with its first failure; files that are none go on."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

HOOKS = "from tests.story import pytest_runtest_makereport, pytest_runtest_setup"
TESTS = """
import pytest
{mark}

@pytest.fixture
def costly():
    print("waits for what cannot come")

def test_begins(): ...
def test_breaks(): assert False
def test_waits(costly): ...
def test_waits_longer(costly): ...
"""
STORY = TESTS.format(mark="pytestmark = pytest.mark.story")


@pytest.fixture
def play(pytester: pytest.Pytester):
    pytester.makeconftest(HOOKS)
    pytester.makeini("[pytest]\nmarkers = story")
    return pytester.runpytest_inprocess


def test_after_the_first_failure_nothing_runs_and_each_test_says_why(play, pytester) -> None:
    pytester.makepyfile(STORY)
    result = play("-p", "no:xdist")
    result.assert_outcomes(passed=1, failed=1, errors=2)
    assert result.stdout.str().count("not run: the story ended with the failure of test_breaks") >= 2
    result.stdout.no_fnmatch_line("*what cannot come*")


def test_a_fixture_that_fails_ends_the_story_too(play, pytester) -> None:
    pytester.makepyfile(STORY.replace("def test_breaks(): assert False", "def test_breaks(no_such_fixture): ..."))
    play("-p", "no:xdist").assert_outcomes(passed=1, errors=3)


def test_another_file_and_tests_of_no_story_go_on(play, pytester) -> None:
    pytester.makepyfile(test_a=STORY, test_b=STORY.replace("assert False", "..."), test_c=TESTS.format(mark=""))
    play("-p", "no:xdist").assert_outcomes(passed=1 + 4 + 3, failed=2, errors=2)
