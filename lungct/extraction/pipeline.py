"""Units of patients through Ray Data: decoding tasks of one core, then network actors, to staged files.

A *unit* is a run of patients that becomes one file. It is one row of one block all the way: rows are never split, so
an actor's call is a unit, whatever its size. Ray's retries are for lost nodes and workers; a patient's own bytes cannot
make a task fail (`lungct.sandbox`), and a fault of the storage is tried again here and then handed back as such.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.dicom.scan import NOTHING_KNOWN, Scan
from lungct.errors import ClusterError, LungCTError, SeriesError, StorageError, UsageError
from lungct.extraction.placement import Device, actor_pool, fixed_size, gpu_nodes_first
from lungct.features import Row, Settings, Staged, stage_rows
from lungct.patients import Patient
from lungct.pseudonyms import Key
from lungct.sandbox import Prepared, Sandbox
from lungct.storage import local_copies

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from lungct.cluster import Session

# Eight patients of 170 triplets are 205 MB; Ray begins a new block above this.
BLOCK_BYTES = 512 << 20
STORAGE_TRIES = 3
STORAGE_PAUSE_S = 1.0


@dataclass(frozen=True)
class UnitResult:
    """What came of a unit, or of a part of one.

    Attributes
    ----------
    staged
        The file to commit; None where no patient of it gave a row.
    identified
        How many patients' directories are named after the person whom their files name.
    slices, triplets
        Counted over the rows with features.
    faults
        Patients that the storage did not give, each with the sentence.
    other_device
        The kind of device that computed it, where it is another than the run began on.

    """

    staged: Staged | None
    identified: int
    slices: int
    triplets: int
    faults: list[tuple[str, str]]
    other_device: str | None


def run_units(
    units: Sequence[Sequence[Patient]],
    settings: Settings,
    device: Device,
    staging: str,
    session: Session,
    *,
    workers: int | None,
    key: Key | None = None,
) -> Generator[UnitResult]:
    """Extract units, in whatever order they finish.

    Parameters
    ----------
    units
        Runs of patients, one file each.
    settings
        What to make the rows with.
    device
        What the network is to run on.
    staging
        The directory that actors write their files to.
    session
        The Ray to run on.
    workers
        Network actors; None: one a GPU, or one.
    key
        What pixel hashes are keyed with, where ids are pseudonyms.

    """
    if not units:
        return
    import ray

    _configure_ray_data()
    on_gpu = settings.device == "cuda"
    if on_gpu and session.local and session.gpus == 0:
        raise ClusterError("the table is made on cuda and Ray sees no GPU here")
    size = fixed_size(settings.device, session, workers, len(units))
    rows = [{"ids": [p.id for p in unit], "locations": [json.dumps(p.location) for p in unit]} for unit in units]
    results = (
        ray.data.from_items(rows, override_num_blocks=len(rows))
        .map_batches(
            decode_unit,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=1,
            fn_kwargs={"preset": settings.preset, "key": key},
            ray_remote_args_fn=gpu_nodes_first() if session.nodes > 1 else None,
        )
        .map_batches(
            NetworkActor,
            batch_size=1,
            batch_format="pyarrow",
            compute=actor_pool(settings.device, session, workers, len(units)),
            # On CPUs the actor holds none: its threads share the cores with the decoding that feeds it, and
            # decoding stops by itself when the actors are behind.
            num_cpus=0,
            num_gpus=1 if on_gpu else 0,
            fn_constructor_kwargs={
                "settings": settings,
                "device": device.name,
                "staging": staging,
                "threads": max(1, session.cpus // (size * session.nodes)),
            },
        )
    )
    for batch in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        for text in batch.column("result").to_pylist():
            yield _result_from_json(text)


def decode_unit(unit: pa.Table, *, preset: str, key: Key | None) -> pa.Table:
    """Decode and preprocess a unit's patients, one after another; a Ray task of one core."""
    ids, locations = (unit.column(name)[0].as_py() for name in ("ids", "locations"))
    copies = local_copies([json.loads(location) for location in locations])
    outcomes = [_prepare(copy, preset) for copy in copies]
    decoded = [_decoded(patient_id, outcome, key) for patient_id, outcome in zip(ids, outcomes, strict=True)]
    return _to_row(decoded, [outcome for outcome in outcomes if isinstance(outcome, Prepared)])


class NetworkActor:
    """A replica of the network: a unit's triplets in, a staged file out.

    Parameters
    ----------
    settings
        The table's.
    device
        The kind of device that the run began on, by its name.
    staging
        The directory to write files to.
    threads
        Batches computed at the same time on a CPU.

    """

    def __init__(self, settings: Settings, device: str, staging: str, threads: int) -> None:
        from lungct.backbone import Backbone, device_name, load_weights, parse_weights

        self._settings, self._staging = settings, staging
        # A GPU of another model adds in another order: said before the first of its rows is in the table.
        here = device_name(settings.device)
        self._other_device = here if here != device else None
        weights = load_weights(settings.backbone, parse_weights(settings.weights))
        if weights.sha256 != settings.weights_sha256:
            raise UsageError(
                f"--weights {settings.weights} gave other weights on a worker than on the driver: "
                "put the same file on every node"
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
        decoded = [patient for patient in patients if patient.triplets]
        result = UnitResult(
            staged,
            identified=sum(patient.scan.identified for patient in decoded),
            slices=sum(patient.scan.slices or 0 for patient in decoded),
            triplets=len(pixels),
            faults=[(patient.id, patient.fault) for patient in patients if patient.fault is not None],
            other_device=self._other_device,
        )
        return pa.table({"result": [_result_to_json(result)]})


# --- decoding ---

_sandbox: Sandbox | None = None


def _prepare(copy: str | list[str] | LungCTError, preset: str) -> Prepared | SeriesError | StorageError:
    """Prepare one patient in this worker's child process, which outlives the task."""
    global _sandbox
    if isinstance(copy, SeriesError | StorageError):
        return copy
    if isinstance(copy, LungCTError):
        raise copy
    _sandbox = _sandbox or Sandbox()
    fault = StorageError("")
    for attempt in range(STORAGE_TRIES):
        try:
            return _sandbox.prepare(copy, preset)
        except SeriesError as error:
            return error
        except StorageError as error:
            fault = error
            if attempt + 1 < STORAGE_TRIES:
                time.sleep(STORAGE_PAUSE_S * 2**attempt)
    return fault


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    """What came of decoding one patient, but for its arrays.

    Attributes
    ----------
    triplets
        T, rows of the unit's arrays that are this patient's.
    scan
        What is known of the scan.
    error, error_code
        Why there is an error row, where there is one.
    fault
        Why the storage did not give the patient, who stays missing.

    """

    id: str
    triplets: int = 0
    scan: Scan = NOTHING_KNOWN
    error: str | None = None
    error_code: str | None = None
    fault: str | None = None

    def row(self, positions_mm: NDArray[np.float64], features: NDArray[np.float32]) -> Row:
        """Return the patient's row, given its rows of the unit's arrays."""
        if self.error is not None:
            return Row(self.id, error=self.error, error_code=self.error_code)
        return Row(self.id, scan=self.scan, positions_mm=positions_mm, features=features)


def _decoded(patient_id: str, outcome: Prepared | SeriesError | StorageError, key: Key | None) -> _Decoded:
    if isinstance(outcome, SeriesError):
        return _Decoded(id=patient_id, error=str(outcome), error_code=outcome.code)
    if isinstance(outcome, StorageError):
        return _Decoded(id=patient_id, fault=str(outcome))
    scan = outcome.scan
    if key is not None:
        scan = replace(scan, pixel_hash=key.pixel_hash(outcome.pixels), identified=False)
    return _Decoded(id=patient_id, triplets=len(outcome.pixels), scan=scan)


def _to_row(patients: Sequence[_Decoded], arrays: Sequence[Prepared]) -> pa.Table:
    """Put a unit into one row: what came of its patients as JSON, and their positions and pixels one after another."""
    import pyarrow as pa

    positions = np.concatenate([np.empty(0), *(prepared.positions_mm for prepared in arrays)])
    pixels = np.concatenate([prepared.pixels for prepared in arrays]) if arrays else np.empty(0, np.uint8)
    return pa.table(
        {
            "patients": pa.array([json.dumps([asdict(patient) for patient in patients])], pa.string()),
            "positions": pa.array([positions.tobytes()], pa.binary()),
            # 32-bit offsets end at 2 GiB, which a unit of many long scans may pass.
            "pixels": _large_binary(pixels),
        }
    )


def _from_row(unit: pa.Table) -> tuple[list[_Decoded], NDArray[np.float64], NDArray[np.uint8]]:
    """Take a unit's row apart without copying its pixels.

    Returns its patients, float64 (T of all,) positions, and uint8 (T of all, 3, 224, 224) pixels.
    """
    patients = [
        _Decoded(**values | {"scan": Scan.from_dict(values["scan"])})
        for values in json.loads(unit.column("patients")[0].as_py())
    ]
    positions = np.frombuffer(unit.column("positions")[0].as_py(), np.float64)
    buffer = unit.column("pixels")[0].as_buffer()
    pixels = np.frombuffer(buffer, np.uint8) if buffer.size else np.empty(0, np.uint8)
    return patients, positions, pixels.reshape(-1, 3, 224, 224)


def _large_binary(data: Any) -> pa.Array:
    """Wrap one value's bytes as an Arrow array without copying them."""
    import pyarrow as pa

    offsets = pa.py_buffer(np.array([0, memoryview(data).nbytes], np.int64).tobytes())
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(data)])


def _result_to_json(result: UnitResult) -> str:
    values = dict(vars(result))
    values["staged"] = vars(result.staged) if result.staged else None
    return json.dumps(values)


def _result_from_json(text: str) -> UnitResult:
    values = json.loads(text)
    staged = Staged(**values["staged"]) if values["staged"] else None
    faults = [(patient_id, sentence) for patient_id, sentence in values["faults"]]
    return UnitResult(**values | {"staged": staged, "faults": faults})


def _configure_ray_data() -> None:
    """Keep a unit in one block, and Ray Data's own bars and plans off our stderr."""
    import ray

    context = ray.data.DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    if not os.environ.get("LUNGCT_DEBUG"):
        for name in ("ray.data", "ray"):
            # What fails is raised here too, and said in a line of ours.
            logging.getLogger(name).setLevel(logging.CRITICAL)
