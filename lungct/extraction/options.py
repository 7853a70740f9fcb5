"""The options that make a row what it is: a request, defaults and an existing table -> the settings of a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from lungct.arguments import spelled
from lungct.backbone import BACKBONES, default_batch_size
from lungct.dicom import SeriesOptions
from lungct.errors import UsageError
from lungct.extraction.placement import ComputeDevice
from lungct.extraction.request import ExtractRequest
from lungct.features import BY_PATIENT_ID, Settings
from lungct.pseudonyms import Key

DEFAULT_PRESET = "dsb2017"
DEFAULT_BACKBONE = "resnet152"
DEFAULT_WEIGHTS = "imagenet"
DEFAULT_DEPTH = 1


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """The options of the rows to be made, as far as they are known before the device is.

    Attributes
    ----------
    device, precision
        May be "auto".
    batch_size
        None: the device's default.
    depth
        Directory levels down to a patient, or `BY_PATIENT_ID`.

    The others are those of `lungct.features.Settings`.
    """

    preset: str
    backbone: str
    weights: str
    device: str
    precision: str
    batch_size: int | None
    depth: int | str
    pseudonym_key: str | None
    series: SeriesOptions

    def settings(self, weights_sha256: str, device: ComputeDevice) -> Settings:
        """Return the settings of a table whose rows are made on a device."""
        return Settings(
            preset=self.preset,
            backbone=self.backbone,
            weights=self.weights,
            weights_sha256=weights_sha256,
            precision=device.precision,
            device=device.device,
            batch_size=self.batch_size or default_batch_size(device.device),
            depth=self.depth,
            pseudonym_key=self.pseudonym_key,
            dim=BACKBONES[self.backbone],
            **asdict(self.series),
        )


def choose_options(request: ExtractRequest, table: Settings | None) -> RowOptions:
    """Fill in what the request leaves open: from the existing table, or with the defaults if there is none."""
    return RowOptions(
        preset=request.preset or (table.preset if table else DEFAULT_PRESET),
        backbone=request.backbone or (table.backbone if table else DEFAULT_BACKBONE),
        weights=request.weights or (table.weights if table else DEFAULT_WEIGHTS),
        device=table.device if table and request.device == "auto" else request.device,
        precision=table.precision if table and request.precision == "auto" else request.precision,
        batch_size=request.batch_size or (table.batch_size if table else None),
        depth=_requested_depth(request) or (table.depth if table else DEFAULT_DEPTH),
        pseudonym_key=request.key.fingerprint if request.key else None,
        series=SeriesOptions(**(table.series_options.as_dict() if table else {}) | request.series.as_dict()),
    )


def may_contradict(request: ExtractRequest, table: Settings) -> bool:
    """Return whether an option was given that the table may not have been made with.

    Weights always may: what a name or a file contains is known only once they are loaded.
    """
    given = {
        "preset": request.preset,
        "backbone": request.backbone,
        "device": None if request.device == "auto" else request.device,
        "precision": None if request.precision == "auto" else request.precision,
        "batch_size": request.batch_size,
        "depth": _requested_depth(request),
        "pseudonym_key": request.key.fingerprint if request.key else None,
        **request.series.as_dict(),
    }
    have = table.as_dict()
    return request.weights is not None or any(value not in (None, have.get(name)) for name, value in given.items())


def _requested_depth(request: ExtractRequest) -> int | str | None:
    return BY_PATIENT_ID if request.by_patient_id else request.depth


def check_key(table: Settings, key: Key | None, where: str) -> None:
    """Raise UsageError if a key is not the table's, before an id is written or looked up under it."""
    fingerprint = key.fingerprint if key else None
    if fingerprint != table.pseudonym_key:
        raise UsageError(
            f"{where} was made {_with_key(table.pseudonym_key)}, and this command is {_with_key(fingerprint)}",
            fix=f"give the table's own key with {spelled('pseudonyms')}, or another table",
        )


def _with_key(fingerprint: str | None) -> str:
    return f"with the pseudonym key {fingerprint}" if fingerprint else "without a pseudonym key"


def check_same(table: Settings, wanted: Settings, where: str) -> None:
    """Raise UsageError if rows of these settings would not belong in the table."""
    differences = table.differences(wanted)
    if differences:
        raise UsageError(
            f"{where} was made with other settings (the table's against the requested: {'; '.join(differences)})",
            fix=f"leave the option out, or give another {spelled('out')}, or {spelled('overwrite', True)}",
        )
