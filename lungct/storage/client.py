"""Open object stores, and translate their errors into errors of lungct that reveal no credential.

A store is opened by its URL alone, with the credentials that each cloud's own tools would find: environment variables,
an instance's role, a workload's identity; for S3 also the profiles of the AWS command line, if boto3 is installed. A
public bucket is read unsigned with ``AWS_SKIP_SIGNATURE=true`` (``GOOGLE_``, ``AZURE_``). No credential ever appears on
a command line or in an error.

The client retries requests (503s, dropped connections) before it reports a failure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any

from lungct.errors import StorageError, UsageError

SCHEMES = ("s3", "gs", "abfs", "abfss")
# A request that receives no byte for this long is tried again. A whole request may take longer; long objects are read
# in parts.
READ_TIMEOUT = timedelta(seconds=30)
REQUEST_TIMEOUT = timedelta(minutes=5)
RETRY_SECONDS = 60.0
# A request that changes a table is small and must end soon: with its retries, well before a new owner's grace period.
# `lungct.storage.ownership` relies on it.
QUICK_SECONDS = 20.0


_FIX_DENIED = (
    "check this machine's credentials for that store (public buckets: AWS_SKIP_SIGNATURE=true, and GOOGLE_ or AZURE_)"
)


class StoreError(StorageError):
    """A failure of a store; ``reason`` says why, without the name of an object."""

    def __init__(self, what: str, reason: str, *, fix: str | None = None) -> None:
        super().__init__(f"{what} ({reason})", fix=fix)
        self.reason = reason


class UnreadableKeyError(UsageError):
    """A listing has a key that is no path: an empty part (``a//b``), ``/./``, or a control character."""


@lru_cache(maxsize=64)
def open_store(root: str, *, quick: bool = False) -> Any:
    """Open a store, once per process; one that is ``quick`` gives up after `QUICK_SECONDS`."""
    from obstore.store import from_url

    retry = float(os.environ.get("LUNGCT_STORAGE_RETRY_SECONDS", RETRY_SECONDS))
    options: dict[str, Any] = {
        "client_options": {
            "connect_timeout": timedelta(seconds=10),
            "read_timeout": READ_TIMEOUT,
            "timeout": timedelta(seconds=QUICK_SECONDS) if quick else REQUEST_TIMEOUT,
        }
        | ({"allow_http": True} if _endpoint_is_plain_http() else {}),
        "retry_config": {
            "max_retries": 10,
            "retry_timeout": timedelta(seconds=min(retry, QUICK_SECONDS) if quick else retry),
        },
    }
    provider = _profile_credentials() if root.startswith("s3://") else None
    if provider is not None:
        options["credential_provider"] = provider
    with store_faults(f"{root} cannot be opened"):
        return from_url(root, **options)


def _endpoint_is_plain_http() -> bool:
    """Return whether the environment names an endpoint without TLS: a store on this machine, an emulator."""
    aws = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3")
    names = (*aws, "AZURITE_BLOB_STORAGE_URL", "GOOGLE_BASE_URL")
    return any(os.environ.get(name, "").startswith("http://") for name in names)


def _profile_credentials() -> Any:
    """Return a provider of the AWS command line's credentials; None if others are set, or boto3 is missing."""
    others = ("AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE", "AWS_WEB_IDENTITY_TOKEN_FILE")
    if any(os.environ.get(name) for name in others):
        return None
    profile = os.environ.get("AWS_PROFILE")
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", os.path.expanduser("~/.aws/credentials"))
    if not profile and not os.path.exists(file):
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        if profile:
            raise StorageError(
                f"AWS_PROFILE is {profile} and boto3, which reads profiles, is not installed",
                fix="pip install boto3",
            ) from None
        return None
    try:
        return Boto3CredentialProvider()
    except Exception as error:
        raise StorageError(
            f"the AWS profile cannot be used ({type(error).__name__})", fix="check `aws configure list`"
        ) from error


@contextmanager
def store_faults(what: str) -> Iterator[None]:
    """Translate a store's errors: into FileNotFoundError, FileExistsError, or else a StoreError about ``what``.

    A store's own text is never passed on, because it may quote an object's key or a signed URL.
    """
    from obstore import exceptions

    try:
        yield
    except (exceptions.NotFoundError, FileNotFoundError) as error:
        raise FileNotFoundError(f"{what}: it does not exist") from error
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
        raise FileExistsError(f"{what}: it exists already, or has changed") from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise StoreError(what, "access was denied", fix=_FIX_DENIED) from error
    except exceptions.InvalidPathError as error:
        problem = "an object in it has a key with // or /./ or a control character, which is not a path"
        raise UnreadableKeyError(f"{what} ({problem})", fix="rename it") from error
    except exceptions.BaseError as error:
        reason, fix = _reason(error)
        raise StoreError(what, reason, fix=fix) from error


def _reason(error: Exception) -> tuple[str, str | None]:
    """Return why a store failed, and the fix if there is one."""
    text = str(error)
    # A machine without credentials asks its cloud's metadata service for some, and that answer is not the store's.
    if any(sign in text.lower() for sign in ("credential", "169.254.169.254", "metadata.google")):
        return "no credentials for that store were found on this machine", None
    status = re.search(r"\b([45]\d\d) [A-Z][a-z]", text)
    if status and status.group(1) == "404":
        return "there is no such bucket: the store answered 404", None
    if status:
        return f"the store answered {status.group(1)}", None
    for sign, reason, fix in (
        ("dns error", "the store's host name is unknown", None),
        ("timed out", "the store did not answer in time", None),
        ("connection refused", "nothing answers at the store's address", None),
        ("redirect", "the bucket is in another region", "set AWS_REGION to it"),
    ):
        if sign in text.lower():
            return reason, fix
    return "the store's answer could not be understood", None
