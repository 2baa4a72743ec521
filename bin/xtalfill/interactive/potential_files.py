"""The potentials of a restoration and their files, chosen as lib/Potentials.groovy does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtalfill.core.errors import ConfigError
from xtalfill.core.files import BUNDLED_POTENTIALS
from xtalfill.core.record import file_sha256
from xtalfill.registry.potentials import POTENTIALS
from xtalfill.relax.download import NEQUIP_NET

NO_RANKING = "none"  # as mlip_rank: mlip alone ranks


@dataclass(frozen=True)
class PotentialFiles:
    """The files of potentials on this machine.

    Attributes:
        store: The user's folder of published models (`potential_dir`); None without one.
    """

    store: Path | None

    def __post_init__(self) -> None:
        if self.store is not None and not self.store.is_dir():
            raise ConfigError(f"potential_dir '{self.store}' is not a folder; name one")

    def ranking(self, mlip: str, mlip_rank: str | None) -> str | None:
        """Return the potential that ranks: the given one, none, or the default where its file is.

        The default only follows a potential of the registry that is not downloaded: who names a
        better one ranks by it.
        """
        if mlip_rank is not None:
            return None if mlip_rank == NO_RANKING else mlip_rank
        entry = POTENTIALS.get(mlip)
        if entry is None or entry.url is not None:
            return None
        names = (name for name, one in POTENTIALS.items() if one.ranks)
        return next((name for name in names if self._stored(name) is not None), None)

    def of(self, mlip: str) -> Path | None:
        """Return the model file behind the name of a potential; None where there is none.

        Raises:
            ConfigError: The model has to be downloaded first, or its file is another one.
        """
        entry = POTENTIALS.get(mlip)
        if entry is not None and entry.bundled is not None:
            return BUNDLED_POTENTIALS / entry.bundled
        if not is_published(mlip):
            return None
        file = self._stored(mlip)
        if file is None:
            raise ConfigError(
                f"mlip '{mlip}' is not downloaded here; download it with bin/fetch_potential.py "
                f"--name {mlip} and give the path of the file, or its folder as potential_dir"
            )
        if entry is not None and entry.sha256 != file_sha256(file):
            raise ConfigError(
                f"mlip '{mlip}': {file} is not the published file, its sha256 differs from the "
                "recorded one; remove it, or give its path instead of the name"
            )
        return file

    def located(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters with the path of a model that the registry does not have."""
        names = {name: given.get(name) for name in ("mlip", "mlip_rank")}
        paths = {
            name: str(self.of(mlip))
            for name, mlip in names.items()
            if isinstance(mlip, str) and mlip.startswith(NEQUIP_NET)
        }
        return {**given, **paths}

    def _stored(self, mlip: str) -> Path | None:
        if self.store is None:
            return None
        file = self.store / file_name(mlip)
        return file if file.is_file() else None


def is_published(mlip: str) -> bool:
    """Return whether a potential has to be downloaded unless the user has its file."""
    entry = POTENTIALS.get(mlip)
    return mlip.startswith(NEQUIP_NET) or (entry is not None and entry.url is not None)


def file_name(mlip: str) -> str:
    """Return the name of the file of a published model in potential_dir."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", mlip.removeprefix(NEQUIP_NET))
    return f"{name}.nequip.zip" if mlip.startswith(NEQUIP_NET) else f"{name}.nqx"
