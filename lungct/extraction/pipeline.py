"""Units of patients through Ray Data: decoding tasks of one core, then network actors, to staged files.

A *unit* is a run of patients that becomes one file. It is one block all the way (Ray Data hands an actor whole
blocks), as long as it fits ``BLOCK_BYTES``; a larger one reaches the actor in parts, each of whole patients, and
becomes several files. Ray's retries are for lost nodes and workers; a patient's own bytes cannot make a task fail
(`lungct.sandbox`), and a fault of the storage is tried again here and then handed back as such.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.errors import ClusterError, SeriesError, StorageError, UsageError
from lungct.features import Row, Settings, Staged, stage_rows
from lungct.patients import Patient
from lungct.pseudonyms import Key
from lungct.sandbox import Prepared, Sandbox

if TYPE_CHECKING:
    import pyarrow as pa

    from lungct.cluster import Session

# Eight patients of 170 triplets are 205 MB; Ray splits a task's output above this.
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
    failed
        How many of its rows are error rows.
    identified
        How many patients' directories are named after the person whom their files name.
    slices, triplets
        Counted over the rows with features.
    faults
        Patients that the storage did not give, each with the sentence.

    """

    staged: Staged | None
    failed: int
    identified: int
    slices: int
    triplets: int
    faults: list[tuple[str, str]]


def run_units(
    units: Sequence[Sequence[Patient]],
    settings: Settings,
    staging: str,
    session: Session,
    *,
    workers: int | None,
    key: Key | None = None,
) -> Iterator[UnitResult]:
    """Extract units, in whatever order they finish.

    Parameters
    ----------
    units
        Runs of patients, one file each.
    settings
        What to make the rows with.
    staging
        The directory that actors write their files to.
    session
        The Ray to run on.
    workers
        Network actors; None: one a GPU, or one.
    key
        What pixel hashes are keyed with, where ids are pseudonyms.

    """
    import ray

    _configure_ray_data()
    on_gpu = settings.device == "cuda"
    if on_gpu and session.gpus == 0:
        raise ClusterError("the table is made on cuda and Ray sees no GPU here")
    size = min(workers or (session.gpus if on_gpu else 1), len(units))
    rows = [
        {"ids": [p.id for p in unit], "locations": [json.dumps(p.location) for p in unit]}
        for unit in units
    ]
    results = (
        ray.data.from_items(rows, override_num_blocks=len(rows))
        .map_batches(
            decode_unit,
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
            fn_kwargs={"preset": settings.preset, "key": key},
        )
        .map_batches(
            NetworkActor,
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=size),
            # On CPUs the actor holds none: its threads share the cores with the decoding that feeds it, and
            # decoding stops by itself when the actors are behind.
            num_cpus=0,
            num_gpus=1 if on_gpu else 0,
            fn_constructor_kwargs={
                "settings": settings,
                "staging": staging,
                "threads": max(1, session.cpus // (size * session.nodes)),
            },
        )
    )
    for batch in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        for text in batch.column("result").to_pylist():
            yield _result_from_json(text)


def decode_unit(unit: pa.Table, *, preset: str, key: Key | None) -> Iterator[pa.Table]:
    """Decode and preprocess a unit's patients, one after another; a Ray task of one core."""
    for ids, locations in zip(
        *(unit.column(n).to_pylist() for n in ("ids", "locations")), strict=True
    ):
        for patient_id, location in zip(ids, locations, strict=True):
            yield _patient_table(patient_id, _prepare(json.loads(location), preset), key)


class NetworkActor:
    """A replica of the network: a unit's triplets in, a staged file out.

    Parameters
    ----------
    settings
        The table's.
    staging
        The directory to write files to.
    threads
        Batches computed at the same time on a CPU.

    """

    def __init__(self, settings: Settings, staging: str, threads: int) -> None:
        from lungct.backbone import Backbone, load_weights, parse_weights

        self._settings, self._staging = settings, staging
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
        """Compute the features of a block of decoded patients and stage their rows."""
        import pyarrow as pa

        patients = [_Decoded.from_table(batch, i) for i in range(batch.num_rows)]
        pixels = [patient.pixels for patient in patients]
        features = self._backbone.features(np.concatenate(pixels))
        cuts = np.cumsum([len(block) for block in pixels])[:-1]
        rows, faults = [], []
        slices = triplets = 0
        for patient, block in zip(patients, np.split(features, cuts), strict=True):
            if patient.meta.get("fault"):
                faults.append((patient.id, patient.meta["fault"]))
                continue
            rows.append(patient.row(block))
            slices += patient.meta.get("slices") or 0
            triplets += len(block)
        staged = stage_rows(rows, self._settings, self._staging) if rows else None
        failed = sum(row.error is not None for row in rows)
        identified = sum(bool(patient.meta.get("identified")) for patient in patients)
        text = _result_to_json(UnitResult(staged, failed, identified, slices, triplets, faults))
        return pa.table({"result": [text]})


# --- decoding ---

_sandbox: Sandbox | None = None


def _prepare(location: str | list[str], preset: str) -> Prepared | SeriesError | StorageError:
    """Prepare one patient in this worker's child process, which outlives the task."""
    global _sandbox
    _sandbox = _sandbox or Sandbox()
    fault = StorageError("")
    for attempt in range(STORAGE_TRIES):
        try:
            return _sandbox.prepare(location, preset)
        except SeriesError as error:
            return error
        except StorageError as error:
            fault = error
            if attempt + 1 < STORAGE_TRIES:
                time.sleep(STORAGE_PAUSE_S * 2**attempt)
    return fault


def _patient_table(
    patient_id: str, outcome: Prepared | SeriesError | StorageError, key: Key | None
) -> pa.Table:
    """Put what came of decoding into one row of a block: numbers as bytes, the rest as JSON."""
    import pyarrow as pa

    pixels, positions = b"", b""
    meta: dict[str, Any]
    if isinstance(outcome, SeriesError):
        meta = {"error": str(outcome), "error_code": outcome.code}
    elif isinstance(outcome, StorageError):
        meta = {"fault": str(outcome)}
    else:
        meta = {
            "slices": outcome.slices,
            "spacing_mm": outcome.spacing_mm,
            "manufacturer": outcome.manufacturer,
            "kernel": outcome.kernel,
            "series_reason": outcome.series_reason,
            "pixel_hash": key.pixel_hash(outcome.pixels) if key else outcome.pixel_hash,
        }
        meta["identified"] = outcome.identified and key is None
        pixels, positions = pa.py_buffer(outcome.pixels), outcome.positions_mm.tobytes()
    return pa.table(
        {
            "id": pa.array([patient_id], pa.string()),
            "meta": pa.array([json.dumps(meta)], pa.string()),
            "positions": pa.array([positions], pa.binary()),
            # 32-bit offsets end at 2 GiB, which a block of many long scans may pass.
            "pixels": _large_binary(pixels),
        }
    )


def _large_binary(data: Any) -> pa.Array:
    """Wrap one value's bytes as an Arrow array without copying them."""
    import pyarrow as pa

    offsets = pa.py_buffer(np.array([0, memoryview(data).nbytes], np.int64).tobytes())
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(data)])


@dataclass(frozen=True)
class _Decoded:
    """A decoded patient as an actor receives it."""

    id: str
    meta: dict[str, Any]
    positions_mm: np.ndarray[Any, np.dtype[np.float64]]
    pixels: np.ndarray[Any, np.dtype[np.uint8]]

    @classmethod
    def from_table(cls, table: pa.Table, i: int) -> _Decoded:
        def numbers(name: str, kind: type[Any]) -> np.ndarray[Any, Any]:
            buffer = table.column(name)[i].as_buffer()
            return np.frombuffer(buffer, kind) if buffer.size else np.empty(0, kind)

        return cls(
            id=table.column("id")[i].as_py(),
            meta=json.loads(table.column("meta")[i].as_py()),
            positions_mm=numbers("positions", np.float64),
            pixels=numbers("pixels", np.uint8).reshape(-1, 3, 224, 224),
        )

    def row(self, features: np.ndarray[Any, np.dtype[np.float32]]) -> Row:
        if "error" in self.meta:
            return Row(self.id, error=self.meta["error"], error_code=self.meta["error_code"])
        spacing = self.meta["spacing_mm"]
        return Row(
            self.id,
            slices=self.meta["slices"],
            spacing_mm=(spacing[0], spacing[1], spacing[2]),
            manufacturer=self.meta["manufacturer"],
            kernel=self.meta["kernel"],
            series_reason=self.meta["series_reason"],
            pixel_hash=self.meta["pixel_hash"],
            positions_mm=self.positions_mm,
            features=features,
        )


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
            logging.getLogger(name).setLevel(logging.ERROR)
