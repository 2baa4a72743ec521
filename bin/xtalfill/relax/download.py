"""Download of nequip models published at nequip.net.

nequip resolves the names and caches downloads in ``NEQUIP_CACHE_DIR``, by default
``~/.nequip/model_cache``. It contacts nequip.net even for cached models.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from xtalfill.core.errors import ConfigError

NEQUIP_NET = "nequip.net:"


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
