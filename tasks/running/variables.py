"""Environment variables between the processes of a stage."""

GUARDED = "AIRLOOP_GUARDED"
"""Set by a starter that made a process a session of its own, with a pipe as stdin (tasks/running/guard.py)."""
LEASE = "AIRLOOP_LEASE"
"""Names the workspace's lock file for a script that somebody else starts (spark-submit; tasks/running/lease.py)."""
