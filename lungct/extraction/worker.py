"""What a Ray worker does with a unit of patients: decode and preprocess them, then compute and stage their features.

A *unit* is the patients of one file of the table. It is one row of one block all the way through Ray Data, so each call
of an actor is one unit, of any size:

    patients                      JSON, from the driver
    patients, positions, pixels   from `decode_unit`: JSON, and the arrays of all patients one after another
    report                        from `NetworkActor`: JSON, for the driver

A patient's own bytes cannot make a task fail (`lungct.sandbox`): they result in an error row. A fault of the machine
(the storage fails, the process that decodes is killed) is tried again and then reported, and the patient stays missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.dicom import SeriesOptions
from lungct.dicom.scan import NOTHING_KNOWN, Scan
from lungct.errors import KilledError, LungCTError, SeriesError, StorageError, UsageError
from lungct.features import Row, Settings, StagedShard, stage_rows
from lungct.patients import Patient
from lungct.pseudonyms import Key
from lungct.sandbox import Prepared, process_sandbox
from lungct.storage import local_copies

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

# Pauses before the second and the third (and last) attempt to read a patient whom the storage failed to deliver.
STORAGE_PAUSES_S = (1.0, 2.0)


@dataclass(frozen=True)
class Fault:
    """Why a patient stays missing although its files are not at fault.

    Attributes
    ----------
    patient_id
        Whose files could not be read.
    killed
        Whether the process that decoded them was killed; if not, the storage failed.
    sentence
        The error.

    """

    patient_id: str
    killed: bool
    sentence: str


@dataclass(frozen=True)
class UnitReport:
    """What an actor reports about a unit.

    Attributes
    ----------
    staged
        The file to commit; None if there are no rows.
    slices, triplets
        Counted over the rows with features.
    faults
        The patients who stay missing.
    other_device
        The kind of device that computed the features, if it differs from the one that the extraction began on.

    """

    staged: StagedShard | None
    slices: int
    triplets: int
    faults: list[Fault]
    other_device: str | None

    def to_json(self) -> str:
        """Return the report as `from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> UnitReport:
        """Read what `to_json` returned."""
        values = json.loads(text)
        staged = StagedShard(**values["staged"]) if values["staged"] else None
        faults = [Fault(**fault) for fault in values["faults"]]
        return cls(**values | {"staged": staged, "faults": faults})


@dataclass(frozen=True, kw_only=True)
class DecodedPatient:
    """A patient after decoding, without the arrays.

    Attributes
    ----------
    person
        As in `lungct.patients.Patient`.
    triplets
        T, the patient's share of the rows of the unit's arrays.
    scan
        What is known of the scan.
    error, error_code
        Why there is an error row, if there is one.
    fault
        Why the patient gets no row, if that is so.

    """

    id: str
    person: str | None
    triplets: int = 0
    scan: Scan = NOTHING_KNOWN
    error: str | None = None
    error_code: str | None = None
    fault: Fault | None = None

    def row(self, positions_mm: NDArray[np.float64], features: NDArray[np.float32]) -> Row:
        """Return the patient's row, given the patient's share of the unit's arrays."""
        if self.error is not None:
            return Row(self.id, person=self.person, error=self.error, error_code=self.error_code)
        return Row(self.id, person=self.person, scan=self.scan, positions_mm=positions_mm, features=features)


def unit_to_json(unit: Sequence[Patient]) -> str:
    """Return a unit's patients as `decode_unit` takes them."""
    return json.dumps([asdict(patient) for patient in unit])


def decode_unit(unit: pa.Table, *, preset: str, options: SeriesOptions, key: Key | None) -> pa.Table:
    """Decode and preprocess a unit's patients, one after another; a Ray task of one core."""
    patients = [Patient(**values) for values in json.loads(unit.column("patients")[0].as_py())]
    copies = local_copies([patient.location for patient in patients])
    decoded, arrays = [], []
    for patient, copy in zip(patients, copies, strict=True):
        try:
            prepared = prepare_patient(copy, preset, options, patient.archive)
        except SeriesError as error:
            decoded.append(_decoded(patient, error=str(error), error_code=error.code))
        except (StorageError, KilledError) as error:
            decoded.append(_decoded(patient, fault=_fault(patient, error)))
        else:
            scan = prepared.scan
            if key is not None:
                scan = replace(scan, pixel_hash=key.pixel_hash(prepared.pixels))
            decoded.append(_decoded(patient, triplets=len(prepared.pixels), scan=scan))
            arrays.append(prepared)
    return _to_row(decoded, arrays)


def _fault(patient: Patient, error: StorageError | KilledError) -> Fault:
    if isinstance(error, KilledError):
        return Fault(patient.id, killed=True, sentence=error.message)
    return Fault(patient.id, killed=False, sentence=str(error))


def _decoded(patient: Patient, **outcome: Any) -> DecodedPatient:
    return DecodedPatient(id=patient.id, person=patient.person, **outcome)


def prepare_patient(
    copy: str | list[str] | LungCTError, preset: str, options: SeriesOptions, archive: str | None
) -> Prepared:
    """Prepare one patient in the child process; a failure of the storage is tried again.

    Parameters
    ----------
    copy
        Where the patient's files are on this machine, or the error that prevented it.
    preset, options
        The table's.
    archive
        The patient's, as in `lungct.patients.Patient`.

    Raises
    ------
    SeriesError
        If the patient's files contain no usable series.
    StorageError
        If the files could not be read in three attempts.
    KilledError
        If the child process was killed in three attempts.

    """
    if isinstance(copy, LungCTError):
        raise copy
    for pause in STORAGE_PAUSES_S:
        try:
            return process_sandbox().prepare(copy, preset, options, archive=archive)
        except StorageError:
            time.sleep(pause)
    return process_sandbox().prepare(copy, preset, options, archive=archive)


class NetworkActor:
    """A replica of the network: a unit's triplets in, a staged file out.

    Parameters
    ----------
    settings
        The table's settings.
    device
        The kind of device that the extraction began on, by its name.
    staging
        The directory to write files to.
    threads
        Batches that are computed at the same time on a CPU.

    """

    def __init__(self, settings: Settings, device: str, staging: str, threads: int) -> None:
        from lungct.backbone import Backbone, device_name, load_weights, parse_weights

        self._settings, self._staging = settings, staging
        # A GPU of another model adds numbers in another order; this is reported with its first rows.
        here = device_name(settings.device)
        self._other_device = here if here != device else None
        weights = load_weights(settings.backbone, parse_weights(settings.weights))
        if weights.sha256 != settings.weights_sha256:
            raise UsageError(
                f"the weights {settings.weights} on a worker are not those on the driver",
                fix="put the same file on every node",
            )
        self._backbone = Backbone(
            settings.backbone,
            weights,
            device=settings.device,
            precision=settings.precision,
            batch_size=settings.batch_size,
            threads=threads,
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Compute the features of a unit's decoded patients and stage their rows."""
        import pyarrow as pa

        patients, positions, pixels = _from_row(batch)
        features = self._backbone.features(pixels)
        cuts = np.cumsum([patient.triplets for patient in patients])[:-1]
        rows = [
            patient.row(where, block)
            for patient, where, block in zip(patients, np.split(positions, cuts), np.split(features, cuts), strict=True)
            if patient.fault is None
        ]
        staged = stage_rows(rows, self._settings, self._staging) if rows else None
        with_features = [patient for patient in patients if patient.triplets]
        report = UnitReport(
            staged,
            slices=sum(patient.scan.slices or 0 for patient in with_features),
            triplets=len(pixels),
            faults=[patient.fault for patient in patients if patient.fault is not None],
            other_device=self._other_device,
        )
        return pa.table({"report": [report.to_json()]})


def _to_row(patients: Sequence[DecodedPatient], arrays: Sequence[Prepared]) -> pa.Table:
    """Return a unit as one row: its patients as JSON, and their positions and pixels one after another."""
    import pyarrow as pa

    positions = np.concatenate([np.empty(0), *(prepared.positions_mm for prepared in arrays)])
    pixels = np.concatenate([prepared.pixels for prepared in arrays]) if arrays else np.empty(0, np.uint8)
    return pa.table(
        {
            "patients": pa.array([json.dumps([asdict(patient) for patient in patients])], pa.string()),
            "positions": pa.array([positions.tobytes()], pa.binary()),
            # 32-bit offsets end at 2 GiB, which a unit of many long scans may exceed.
            "pixels": _large_binary(pixels),
        }
    )


def _from_row(unit: pa.Table) -> tuple[list[DecodedPatient], NDArray[np.float64], NDArray[np.uint8]]:
    """Read what `_to_row` returned, without copying the pixels.

    Returns
    -------
    patients
        In the order of the unit.
    positions : float64 (T of all,)
    pixels : uint8 (T of all, 3, 224, 224)

    """
    patients = [_decoded_from(values) for values in json.loads(unit.column("patients")[0].as_py())]
    positions = np.frombuffer(unit.column("positions")[0].as_py(), np.float64)
    buffer = unit.column("pixels")[0].as_buffer()
    pixels = np.frombuffer(buffer, np.uint8) if buffer.size else np.empty(0, np.uint8)
    return patients, positions, pixels.reshape(-1, 3, 224, 224)


def _decoded_from(values: dict[str, Any]) -> DecodedPatient:
    fault = Fault(**values["fault"]) if values["fault"] else None
    return DecodedPatient(**values | {"scan": Scan.from_dict(values["scan"]), "fault": fault})


def _large_binary(data: Any) -> pa.Array:
    """Wrap the bytes of one value as an Arrow array without copying them."""
    import pyarrow as pa

    offsets = pa.py_buffer(np.array([0, memoryview(data).nbytes], np.int64).tobytes())
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(data)])
