"""Models of the nequip package that are published at nequip.net, by name.

nequip resolves the names itself and keeps what it downloaded in a cache of its own
(``NEQUIP_CACHE_DIR``, else ``~/.nequip/model_cache``). Even for what is there it asks nequip.net.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from xtalfill.core.errors import ConfigError

NEQUIP_NET = "nequip.net:"


def download_model(name: str, path: Path) -> None:
    """Download a published model, or take it from nequip's cache.

    Args:
        name: ``nequip.net:group/model:version``.
        path: The ``.nequip.zip`` to write.

    Raises:
        ConfigError: The name is wrong or unknown, or nequip.net cannot be reached.
    """
    # nequip has no public function that gives the file rather than the model.
    from nequip.model.saved_models.load_utils import _get_model_file_path
    from nequip.utils.model_repository import ModelNotFoundError

    if not name.startswith(NEQUIP_NET):
        raise ConfigError(f"mlip '{name}' is no {NEQUIP_NET}group/model:version")
    try:
        with _get_model_file_path(name) as found:
            shutil.copyfile(found, path)
    except ModelNotFoundError as error:
        raise ConfigError(
            f"mlip '{name}' is unknown at nequip.net; its page lists the models"
        ) from error
    except OSError as error:  # all that requests raises is one
        raise ConfigError(
            f"mlip '{name}' cannot be downloaded ({type(error).__name__}); run where nequip.net "
            "can be reached, or download the .nequip.zip elsewhere and give its path"
        ) from error
    except (AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"mlip '{name}' cannot be downloaded ({reason})") from error
