"""What the caller of `extract` asked for, checked before anything is read or written."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lungct.arguments import at_least, one_of, spelled
from lungct.backbone import DEVICES, PRECISIONS, BackboneName, Device, Precision, check_backbone, parse_weights
from lungct.dicom import SeriesOptions
from lungct.errors import UsageError
from lungct.preprocess import PRESETS, Preset
from lungct.pseudonyms import Key
from lungct.storage import Place, depth_below, same_place


@dataclass(frozen=True, kw_only=True)
class ExtractRequest:
    """The arguments of `extract`, as they were given.

    Attributes
    ----------
    src, out
        The places that they name.
    key
        The key in the file that ``pseudonyms`` names.
    series
        ``series_include``, ``series_exclude``, ``body_part`` and ``volume``.

    The others are those of `lungct.extract`; None if the caller left the choice to lungct.
    """

    src: Place
    out: Place
    preset: Preset | None
    backbone: BackboneName | None
    weights: str | None
    device: Device
    precision: Precision
    batch_size: int | None
    workers: int | None
    shard_patients: int
    depth: int | None
    by_patient_id: bool
    patients: str | os.PathLike[str] | None
    limit: int | None
    series: SeriesOptions
    key: Key | None
    max_errors: int | None
    overwrite: bool
    retry_errors: bool
    take_over: bool
    address: str | None
    quiet: bool

    def check(self) -> None:
        """Raise UsageError if an argument is invalid, or two of them contradict each other."""
        self._check_values()
        if self.by_patient_id and self.depth is not None:
            raise UsageError(
                f"{spelled('by_patient_id', True)} reads files at any depth", fix=f"leave {spelled('depth')} out"
            )
        if self.overwrite and self.retry_errors:
            raise UsageError(
                f"{spelled('overwrite', True)} makes every row again, so {spelled('retry_errors', True)} has nothing "
                "to retry",
                fix="give one of them",
            )
        if same_place(self.src, self.out):
            raise UsageError(f"{spelled('out')} {self.out} is {spelled('SRC')} itself", fix="give another directory")
        if not self.by_patient_id and (depth_below(self.out, self.src) or 0) > (self.depth or 1):
            raise UsageError(
                f"{spelled('out')} {self.out} lies inside a patient of {spelled('SRC')}", fix="give another directory"
            )

    def _check_values(self) -> None:
        if self.preset is not None:
            one_of(self.preset, PRESETS, "preset")
        if self.backbone is not None:
            check_backbone(self.backbone)
        if self.weights is not None:
            parse_weights(self.weights)
        one_of(self.device, DEVICES, "device")
        one_of(self.precision, PRECISIONS, "precision")
        at_least(self.shard_patients, 1, "shard_patients")
        for name in ("batch_size", "workers", "depth", "limit", "max_errors"):
            value = getattr(self, name)
            if value is not None:
                at_least(value, 1, name)
        self.series.check()
