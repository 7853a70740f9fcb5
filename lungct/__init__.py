"""lungct: from an archive of chest CTs to a table of deep features and a cross-validated model.

This module lists the public names of the Python interface. Each is imported from its own module when it is first used,
so that ``import lungct`` takes a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lungct._version import __version__

if TYPE_CHECKING:
    from lungct.boosting import CVResult, cross_validate
    from lungct.dicom import Series, read_series
    from lungct.errors import (
        ClusterError,
        LungCTError,
        NothingUsableError,
        SeriesError,
        StorageError,
        UsageError,
    )
    from lungct.extraction import ExtractSummary, extract
    from lungct.features import pooled, read_features
    from lungct.prediction import predict
    from lungct.preprocess import Triplets, triplets
    from lungct.reporting import report
    from lungct.training import TrainSummary, train

_HOME = {
    "read_series": "dicom",
    "Series": "dicom",
    "triplets": "preprocess",
    "Triplets": "preprocess",
    "extract": "extraction",
    "ExtractSummary": "extraction",
    "read_features": "features",
    "pooled": "features",
    "train": "training",
    "TrainSummary": "training",
    "cross_validate": "boosting",
    "CVResult": "boosting",
    "predict": "prediction",
    "report": "reporting",
    "LungCTError": "errors",
    "UsageError": "errors",
    "NothingUsableError": "errors",
    "SeriesError": "errors",
    "StorageError": "errors",
    "ClusterError": "errors",
}

__all__ = [
    "CVResult",
    "ClusterError",
    "ExtractSummary",
    "LungCTError",
    "NothingUsableError",
    "Series",
    "SeriesError",
    "StorageError",
    "TrainSummary",
    "Triplets",
    "UsageError",
    "__version__",
    "cross_validate",
    "extract",
    "pooled",
    "predict",
    "read_features",
    "read_series",
    "report",
    "train",
    "triplets",
]


if not TYPE_CHECKING:  # hidden from type checkers: to them, a name that is not imported above is an error

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            return getattr(import_module(f"lungct.{_HOME[name]}"), name)
        raise AttributeError(f"module 'lungct' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
