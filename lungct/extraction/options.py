"""What the user asked for, what the table was made with, and the defaults: settled into one Settings."""

from __future__ import annotations

from dataclasses import dataclass

from lungct.backbone import (
    BACKBONES,
    DEVICES,
    PRECISIONS,
    check_backbone,
    default_batch_size,
    load_weights,
    parse_weights,
)
from lungct.errors import UsageError
from lungct.extraction.placement import Device
from lungct.features import Settings
from lungct.preprocess import PRESETS
from lungct.pseudonyms import Key

DEFAULT_PRESET = "dsb2017"
DEFAULT_BACKBONE = "resnet152"
DEFAULT_WEIGHTS = "imagenet"
BY_PATIENT_ID = "patient-id"


@dataclass(frozen=True)
class Asked:
    """The options that make a row what it is, as the user gave them; None where not given."""

    preset: str | None = None
    backbone: str | None = None
    weights: str | None = None
    device: str | None = None
    precision: str | None = None
    batch_size: int | None = None
    depth: int | str | None = None
    key: Key | None = None
    default_device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what no table could be made with, before anything is touched."""
        _one_of(self.preset, PRESETS, "--preset")
        _one_of(self.device, DEVICES, "--device")
        _one_of(self.default_device, DEVICES, "--device")
        _one_of(self.precision, PRECISIONS, "--precision")
        at_least_one(self.batch_size, "--batch-size")
        if self.depth != BY_PATIENT_ID:
            at_least_one(self.depth, "--depth")
        if self.backbone is not None:
            check_backbone(self.backbone)
        if self.weights is not None:
            parse_weights(self.weights)

    def over(self, table: Settings | None) -> Asked:
        """Fill what was not given from the table that is there, else by default."""
        return Asked(
            preset=self.preset or (table.preset if table else DEFAULT_PRESET),
            backbone=self.backbone or (table.backbone if table else DEFAULT_BACKBONE),
            weights=self.weights or (table.weights if table else DEFAULT_WEIGHTS),
            device=_given(self.device) or (table.device if table else self.default_device),
            precision=_given(self.precision) or (table.precision if table else "auto"),
            batch_size=self.batch_size or (table.batch_size if table else None),
            depth=self.depth or (table.depth if table else 1),
            key=self.key,
        )

    def contradicts(self, table: Settings) -> bool:
        """Whether an option was given that the table may not have been made with."""
        given = {
            "preset": self.preset,
            "backbone": self.backbone,
            "device": _given(self.device),
            "precision": _given(self.precision),
            "batch_size": self.batch_size,
            "depth": self.depth,
            "pseudonym_key": self.key.fingerprint if self.key else None,
        }
        have = table.as_dict()
        return self.weights is not None or any(
            value is not None and value != have[name] for name, value in given.items()
        )


def weights_sha256(asked: Asked, *, quiet: bool) -> str:
    """Load the weights once and say what they are.

    Raises
    ------
    UsageError
        If they cannot be loaded into that backbone.

    """
    assert asked.backbone is not None
    assert asked.weights is not None
    return load_weights(asked.backbone, parse_weights(asked.weights), quiet=quiet).sha256


def settle(asked: Asked, sha256: str, found: Device) -> Settings:
    """Say what every row will be made with, on the device that was found for it."""
    preset, backbone, weights, depth = asked.preset, asked.backbone, asked.weights, asked.depth
    assert preset is not None
    assert backbone is not None
    assert weights is not None
    assert depth is not None
    return Settings(
        preset=preset,
        backbone=backbone,
        weights=weights,
        weights_sha256=sha256,
        precision=found.precision,
        device=found.device,
        batch_size=asked.batch_size or default_batch_size(found.device),
        depth=depth,
        pseudonym_key=asked.key.fingerprint if asked.key else None,
        dim=BACKBONES[backbone],
    )


def check_key(table: Settings, key: Key | None, where: str) -> None:
    """Refuse another key than the table's, before an id is written or looked up under it."""
    have = key.fingerprint if key else None
    if have != table.pseudonym_key:
        raise UsageError(
            f"{where} was made {_with_key(table.pseudonym_key)} and this run is {_with_key(have)}: "
            "give the table's own --pseudonyms KEYFILE, or another --out"
        )


def check_same(table: Settings, wanted: Settings, where: str) -> None:
    """Refuse to mix rows of two settings in one table."""
    differences = table.differences(wanted)
    if differences:
        raise UsageError(
            f"{where} was made with other settings ({'; '.join(differences)}: the table's against this run's): "
            "leave the option out, give another --out, or --overwrite"
        )


def at_least_one(value: object, option: str) -> None:
    """Refuse what is no count from one."""
    if value is not None and (type(value) is not int or value < 1):
        raise UsageError(f"{option} {value} makes no sense: give a whole number from 1")


def _one_of(value: str | None, allowed: tuple[str, ...], option: str) -> None:
    if value is not None and value not in allowed:
        raise UsageError(f"{option} {value} is unknown: take one of {', '.join(allowed)}")


def _given(value: str | None) -> str | None:
    return None if value == "auto" else value


def _with_key(fingerprint: str | None) -> str:
    return f"with the pseudonym key {fingerprint}" if fingerprint else "without --pseudonyms"
