"""Download of published potentials: models at nequip.net, and files listed in the registry.

nequip resolves the names at nequip.net and caches downloads in ``NEQUIP_CACHE_DIR``, by default
``~/.nequip/model_cache``. It contacts nequip.net even for cached models. A file of the registry
must have the checksum that the registry records.
"""

from __future__ import annotations

import hashlib
import shutil
import urllib.request
from http.client import HTTPException
from pathlib import Path

from xtalfill.core.errors import ConfigError
from xtalfill.registry.potentials import POTENTIALS, PotentialEntry

NEQUIP_NET = "nequip.net:"
MAX_BYTES = 256 << 20  # of a file of the registry
_TIMEOUT = 60.0  # seconds without data


def fetch(name: str, path: Path) -> None:
    """Download the model file of a published potential.

    Args:
        name: A name of the registry, or ``nequip.net:group/model:version``.
        path: Output file.

    Raises:
        ConfigError: The name is unknown, its server is unreachable, or the file is not the one
            that the registry records.
    """
    entry = POTENTIALS.get(name)
    if entry is None or entry.url is None:
        download_model(name, path)
    else:
        _download_registered(entry, entry.url, path)


def _download_registered(entry: PotentialEntry, url: str, path: Path) -> None:
    if not url.startswith("https://"):
        raise ConfigError(f"mlip '{entry.name}': {url} is not an https address")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:  # noqa: S310
            content = response.read(MAX_BYTES + 1)
    except (OSError, HTTPException) as error:  # URLError is an OSError
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(
            f"mlip '{entry.name}' cannot be downloaded from {url} ({reason}); run on a machine "
            "that reaches it, or download the file elsewhere into a folder for --potential_dir"
        ) from error
    if len(content) > MAX_BYTES or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise ConfigError(
            f"mlip '{entry.name}': the sha256 of {url} differs from the recorded one; the download "
            "is incomplete or the file was replaced"
        )
    path.write_bytes(content)


def download_model(name: str, path: Path) -> None:
    """Download a published model, or copy it from nequip's cache.

    Args:
        name: ``nequip.net:group/model:version``.
        path: Output file, ``.nequip.zip``.

    Raises:
        ConfigError: The name is invalid or unknown, or nequip.net is unreachable.
    """
    # nequip has no public function that returns the path of the model file.
    from nequip.model.saved_models.load_utils import _get_model_file_path
    from nequip.utils.model_repository import ModelNotFoundError

    if not name.startswith(NEQUIP_NET):
        raise ConfigError(f"mlip '{name}' is not of the form {NEQUIP_NET}group/model:version")
    try:
        with _get_model_file_path(name) as found:
            shutil.copyfile(found, path)
    except ModelNotFoundError as error:
        raise ConfigError(
            f"mlip '{name}' is unknown at nequip.net; see its web page for the available models"
        ) from error
    except OSError as error:  # base class of all exceptions of requests
        raise ConfigError(
            f"mlip '{name}' cannot be downloaded ({type(error).__name__}); run on a machine that "
            "reaches nequip.net, or download the .nequip.zip elsewhere and give its path"
        ) from error
    except (AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"mlip '{name}' cannot be downloaded ({reason})") from error
