"""Directories of an S3 store in which a key has an empty part: ``scans//p1/a.dcm``.

To obstore such a key is no path, and one of them makes the whole listing fail. Arrow lists them, so it is asked where
obstore has refused; what lies below the empty part still cannot be read by either, and is left out with a warning.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from typing import Any

from lungct.errors import LungCTWarning, StorageError


def list_directory(root: str, key: str) -> tuple[list[str], list[str]]:
    """List the prefixes and the objects directly below a key, as `obstore.list_with_delimiter` would.

    Parameters
    ----------
    root
        The store: ``s3://bucket``.
    key
        The directory, without slashes at either end.

    Returns
    -------
    prefixes, objects
        Keys, without slashes at the end.

    Raises
    ------
    StorageError
        If the store cannot be listed in this way either.

    """
    from pyarrow import fs

    bucket = root.removeprefix("s3://")
    directory = f"{bucket}/{key}".rstrip("/")
    try:
        found = _file_system(bucket).get_file_info(fs.FileSelector(directory))
    except OSError as error:
        raise StorageError(f"{root}/{key} cannot be listed ({type(error).__name__})") from error
    named = [info for info in found if info.path.rstrip("/") != directory]
    _warn_of(f"{root}/{key}".rstrip("/"))
    keys = [(info.type == fs.FileType.Directory, info.path.removeprefix(f"{bucket}/").rstrip("/")) for info in named]
    return [name for below, name in keys if below], [name for below, name in keys if not below]


def _file_system(bucket: str) -> Any:
    """Return Arrow's client of S3, with what the environment says about endpoint, region and signatures."""
    from pyarrow import fs

    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = next((os.environ[name] for name in names if os.environ.get(name)), None)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        region = fs.resolve_s3_region(bucket)
    anonymous = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")
    return fs.S3FileSystem(endpoint_override=endpoint, region=region, anonymous=anonymous)


@cache
def _warn_of(directory: str) -> None:
    """Warn once per process and directory."""
    warnings.warn(
        LungCTWarning(f"keys with an empty part below {directory} ({directory}//…) are left out: rename those objects"),
        stacklevel=4,
    )
