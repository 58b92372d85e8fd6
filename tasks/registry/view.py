"""Makes MLflow's registry agree with the store's versions and the ledger, and says once what cannot be made to agree."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import DataError
from tasks.registry import logged, mlflow_registry, notices, versions
from tasks.registry.mlflow_registry import CHAMPION, MISSING, PREVIOUS, registered_name
from tasks.registry.versions import Version
from tasks.settings.environment import trigger
from tasks.storage.artefacts import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

RESTORES = "airloop.restores"
"""Tag of a version that is made to bring back a number: under another number it is a step on the way, and deleted."""


@dataclass
class Agreed:
    """What came of it."""

    changes: list[str] = field(default_factory=list)
    """What had to change, in words ("champion -> v2")."""
    notices: dict[str, str] = field(default_factory=dict)
    """What cannot be made to agree: a sentence, by what it is about."""


def agree(store: Store, champion: int | None, previous: int | None) -> Agreed:
    """Make MLflow show every version of ``store``, with aliases for these two; warn once of what it cannot show.

    Raises:
        RegistryError: MLflow is away, refuses or fails; nothing is wrong with what the ledger says.
    """
    client = mlflow_registry.client()
    with mlflow_registry.answering():
        view = View(client, store)
        view.show_versions()
        view.show_aliases(champion, previous)
    view.say_once()
    return view.agreed


def enter(store: Store, root: Path, record: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> Version:
    """Register the model whose workspace is ``root``: a number that never meant another model, here and in MLflow.

    Args:
        store: whose book of versions it is; it holds the model and its record.
        root: the training run's workspace.
        record: digest of its record in the store.
        tags: of the version.
        metrics: to log beside the evaluation's.
    """
    client = mlflow_registry.client()
    with mlflow_registry.answering():
        view = View(client, store)
        view.show_versions()  # a lower number cannot be made once a higher one is there
        run, model = tags["airloop.run"], tags["airloop.onnx"]
        made = versions.of_run(store, tags)
        if made is None:
            uri, run_id = logged.find(client, run, model) or logged.log(client, root, run, tags, metrics)
            made = _numbered(client, store, uri, run_id, record, dict(tags))
    view.say_once()
    return made


def _numbered(client: MlflowClient, store: Store, uri: str, run_id: str, record: str, tags: dict[str, str]) -> Version:
    """A version under MLflow's next number that is above all that this store knows.

    One that a killed try made and did not claim is taken.
    """
    same = {name: tags[name] for name in ("airloop.run", "airloop.onnx", "airloop.gate")}.items()
    while True:
        newest = max(versions.read_all(store), default=0)
        unclaimed = (
            number
            for number, found in mlflow_registry.listed(client).items()
            if number > newest and RESTORES not in found.tags and same <= found.tags.items()
        )
        number = next(unclaimed, None) or mlflow_registry.create(client, uri, run_id, tags)
        if number > newest and (made := versions.claim(store, number, record, tags)):
            return made
        client.delete_model_version(registered_name(), str(number))


class View:
    """MLflow's registry beside what the store knows, and what was done about the difference."""

    def __init__(self, client: MlflowClient, store: Store) -> None:
        self._client, self._store, self._name = client, store, registered_name()
        self._known = versions.read_all(store)
        self.agreed = Agreed()
        model = mlflow_registry.registered_model(client)
        if model is None and self._known:
            model = client.create_registered_model(self._name)
            self.agreed.changes.append(f"registered model {self._name!r} made")
        # A registered model that was made again knows nothing of what was deleted from the one before.
        self._since = int(model.creation_timestamp) if model else None
        kept = notices.kept(store)
        self._gone: set[int] = set(kept["gone"]) if kept["since"] == self._since else set()
        self._shown = mlflow_registry.listed(client) if model else {}

    def show_versions(self) -> None:
        """Every known version is there with its tags, or there is a notice; and one of each that the store does not know."""
        for number in [n for n, found in self._shown.items() if n not in self._known and RESTORES in found.tags]:
            # A step of a repair whose process was killed.
            self._client.delete_model_version(self._name, str(number))
            del self._shown[number]
        for number, version in self._known.items():
            if number not in self._shown:
                self._restore(version)
            elif self._is(number):
                self._put_tags(version)
            else:
                self._notice_other(number)
        for number in sorted(self._shown.keys() - self._known.keys()):
            self._notice_unknown(number)

    def show_aliases(self, champion: int | None, previous: int | None) -> None:
        """Put the aliases on the ledger's versions, or nowhere."""
        model = mlflow_registry.registered_model(self._client)
        current = model.aliases if model else {}
        for alias, wanted in ((CHAMPION, champion), (PREVIOUS, previous)):
            shown = wanted if wanted is not None and self._is(wanted) else None
            have = current.get(alias)  # text from a server, a number from a database
            if shown is None and have is not None:
                self._client.delete_registered_model_alias(self._name, alias)
                self.agreed.changes.append(f"{alias} removed")
            elif shown is not None and str(have) != str(shown):
                self._client.set_registered_model_alias(self._name, alias, str(shown))
                self.agreed.changes.append(f"{alias} -> v{shown}")

    def say_once(self) -> None:
        """Warn of each notice that is new."""
        notices.say_once(self._store, self._since, self._gone, self.agreed.notices)

    def _is(self, number: int) -> bool:
        """Whether MLflow shows this number, and it is the model that the number means."""
        if number not in self._shown or number not in self._known:
            return False
        return self._digest(self._shown[number]) == self._known[number].model

    def _digest(self, found: ModelVersion) -> str | None:
        """ONNX digest of MLflow's version: its tag's or, where somebody deleted that, its run's; None where nothing says it."""
        from mlflow.exceptions import MlflowException

        if "airloop.onnx" in found.tags or not found.run_id:
            return found.tags.get("airloop.onnx")
        try:
            digest: str | None = self._client.get_run(found.run_id).data.tags.get("airloop.onnx")
        except MlflowException as error:
            if error.error_code != MISSING:
                raise
            return None
        return digest

    def _put_tags(self, version: Version) -> None:
        found = self._shown[version.version]
        lost = {name: value for name, value in version.tags.items() if found.tags.get(name) != value}
        for name, value in lost.items():
            self._client.set_model_version_tag(self._name, str(version.version), name, value)
        if lost:
            self.agreed.changes.append(f"{len(lost)} tags of v{version.version} put back")

    def _restore(self, version: Version) -> None:
        """Register a known version again, under its number; a notice where MLflow gives that no more, or its files are lost."""
        number = version.version
        if number in self._gone or number < max(self._shown, default=0):
            self._gone.add(number)
            self._notice_gone(number)
            return
        try:
            uri, run_id = self._logged(version)
        except DataError as error:
            self.agreed.notices[f"lost {number}"] = (
                f"v{number} is not in MLflow and cannot be registered again: {error}"
            )
            return
        while (
            made := mlflow_registry.create(self._client, uri, run_id, {**version.tags, RESTORES: str(number)})
        ) != number:
            self._client.delete_model_version(self._name, str(made))
            if made > number:
                self._gone.add(number)
                self._notice_gone(number)
                return
        self._shown[number] = self._client.get_model_version(self._name, str(number))
        self.agreed.changes.append(f"v{number} registered again from the store")

    def _logged(self, version: Version) -> tuple[str, str]:
        """The version's model as MLflow has it, or logged again from the store."""
        if found := logged.find(self._client, version.run, version.model):
            return found
        with tempfile.TemporaryDirectory(prefix="airloop-") as folder:
            logged.bring(self._store, version, Path(folder))
            return logged.log(self._client, Path(folder), version.run, version.tags, {})

    def _notice_gone(self, number: int) -> None:
        self.agreed.notices[f"gone {number}"] = (
            f"v{number} is gone from MLflow, which makes no number twice and none below its newest, so no alias can name it. The "
            "store keeps the model: it serves and can be rolled back to as before."
        )

    def _notice_other(self, number: int) -> None:
        self.agreed.notices[f"other {number}"] = (
            f"MLflow's version {number} of {self._name!r} is another model than v{number} of this store, so it gets no alias. To have "
            f"all versions made again from the store, delete the registered model {self._name!r} in MLflow and heal: "
            f"`{trigger('deploy')}`."
        )

    def _notice_unknown(self, number: int) -> None:
        self.agreed.notices[f"unknown {number}"] = (
            f"MLflow has a version {number} of {self._name!r} that this store never registered, so it cannot go live. It was made by "
            "hand, or the store was restored from a backup that is older than MLflow."
        )
