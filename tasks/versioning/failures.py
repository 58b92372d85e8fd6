"""What an error of DVC means to a run."""

from __future__ import annotations

from dvc.exceptions import DvcException
from dvc.stage.exceptions import StageCmdFailedError

from tasks.core.errors import AirloopError, DataError, Unavailable
from tasks.core.full_disk import no_space
from tasks.core.results import EXIT_CODES, Status


class StageError(AirloopError):
    """A stage's command failed; its own message is above in the log."""


def lost_files(what: list[str]) -> DataError:
    """The refusal for files, or stages whose files they are, that are nowhere."""
    return DataError(
        f"{', '.join(what)}: no file with the digest in dvc.lock, neither in the cache nor in the DVC remote. "
        "Run the ingest DAG for that interval again; it makes the file again."
    )


def stage_failed(name: str, error: DvcException) -> AirloopError:
    """What became of stage ``name``, whose command has said more in the log above where it is its own fault."""
    cause = innermost(error)
    if isinstance(cause, StageCmdFailedError) and cause.status == EXIT_CODES[Status.WAITING]:
        return Unavailable(f"stage {name}: what it needs is not to be had now; its own message is above.")
    if sentence := no_space(error):
        return Unavailable(f"stage {name}: {sentence}")
    return StageError(f"stage {name}: {cause}")


def innermost(error: BaseException) -> BaseException:
    """The first of a chain of DVC exceptions: the outer ones only repeat the stage."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
