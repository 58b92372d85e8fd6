"""DVC's own share of a run: one stage by its bare command, through DVC in a workspace of its own, and from the cache.

The stage is `validate`: a second of work, several outputs. What comes on top is DVC, the run's workspace (a copy of the
code, its inputs linked in and hashed again), the push to the remote and the start of one Python.
"""

from __future__ import annotations

import statistics
from itertools import count

from bench.frame import Row, Usage, timed
from bench.home import LAST, Home, forget

STAGE = "validate"
_turns = count(1)


def measure(home: Home, repeats: int) -> list[Row]:
    """Four ways to the same files, and the differences."""

    def through(*, fresh: bool) -> Usage:
        key = f"dvc-{next(_turns)}"
        # A limit that no interval comes near makes it another stage to DVC without making it other work.
        settings = {"validate__max_bad_share": 0.02 + next(_turns) * 1e-6} if fresh else {}
        try:
            return home.call("stage", [STAGE], key, LAST, **settings)
        finally:
            forget(home.workspace(key))

    bare = timed(f"{STAGE}: bare command", lambda: home.bare(STAGE, LAST, home.ingested(LAST)), repeats)
    run = timed(f"{STAGE}: through DVC, run", lambda: through(fresh=True), repeats)
    cached = timed(
        f"{STAGE}: through DVC, from the cache", lambda: through(fresh=False), repeats, "a new run's workspace"
    )
    again = timed(
        f"{STAGE}: through DVC, done already",
        lambda: home.call("stage", [STAGE], home.ingested(LAST).name, LAST),
        repeats,
        "the same run's workspace",
    )
    share = [w - statistics.median(bare.values) for w in run.values]
    more = {"cpu_s": run.more["cpu_s"] - bare.more["cpu_s"]}
    return [
        bare,
        run,
        cached,
        again,
        Row("DVC's and the workspace's own share", "s", tuple(share), "run less bare", more),
    ]
