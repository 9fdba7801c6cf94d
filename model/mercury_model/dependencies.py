"""What dependencies are told before they are imported: report nothing, write nowhere but here.

Some of them read these variables once, when they are imported, so nobody may import them earlier.
Imports none of them.
"""

import logging
import os
import sys
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path
from types import MappingProxyType

log = logging.getLogger(__name__)

SILENCE: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        # Without it: a device id and a database of events in the user's cache folder, and uploads.
        "onnxruntime": {"ORT_DISABLE_TELEMETRY": "1"},
        # Without it: versions of other packages and the calling program in every request, a list
        # of programs fetched for that; and the caches and logs of Xet in the user's cache folder.
        "huggingface_hub": {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"},
    }
)
"""By package: the environment in which it reports nothing to its publisher."""

FOLDERS: Mapping[str, str] = MappingProxyType(
    {"matplotlib": "MPLCONFIGDIR", "triton": "TRITON_CACHE_DIR"}
)
"""By package: the variable that names the folder it writes to, in the user's home otherwise."""


def silence(
    package: str,
    imported: Collection[str] = sys.modules.keys(),
    environment: MutableMapping[str, str] = os.environ,
) -> bool:
    """Have a package of SILENCE report nothing; call this before it is imported.

    False, with a warning in the log, if somebody imported it earlier without these variables.
    """
    wanted = SILENCE[package]
    in_time = package not in imported or wanted.items() <= environment.items()
    environment.update(wanted)
    if not in_time:
        log.warning(
            "%s was imported before mercury_model and may report to its publisher; "
            "set %s before it is imported",
            package,
            " and ".join(f"{name}={value}" for name, value in wanted.items()),
        )
    return in_time


def keep_files(
    package: str, cache_dir: Path, environment: MutableMapping[str, str] = os.environ
) -> None:
    """Have a package of FOLDERS write into `cache_dir`, unless the user named another folder."""
    environment.setdefault(FOLDERS[package], str(cache_dir / package))
