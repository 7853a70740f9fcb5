"""The driver's side of Ray Data: units of patients through decoding tasks of one core, then through network actors.

Units are never split (`lungct.extraction.worker` defines them). Ray repeats what was lost with a node or a worker.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from lungct.errors import ClusterError
from lungct.extraction.placement import ComputeDevice, actor_pool, fixed_size, gpu_nodes_first
from lungct.extraction.worker import NetworkActor, UnitReport, decode_unit, unit_to_json
from lungct.features import Settings
from lungct.patients import Patient
from lungct.pseudonyms import Key

if TYPE_CHECKING:
    from lungct.cluster import Session

# Eight patients of 170 triplets are 205 MB; Ray begins a new block above this.
BLOCK_BYTES = 512 << 20


def run_units(
    units: Sequence[Sequence[Patient]],
    settings: Settings,
    device: ComputeDevice,
    staging: str,
    session: Session,
    *,
    workers: int | None,
    key: Key | None = None,
) -> Generator[UnitReport]:
    """Extract units, and yield their reports in the order in which they finish.

    Parameters
    ----------
    units
        The patients of one file each.
    settings
        What rows are made with.
    device
        What the network runs on.
    staging
        The directory that actors write their files to.
    session
        The cluster to work on.
    workers
        Network actors; None: one per GPU, or one.
    key
        What pixel hashes are keyed with, if ids are pseudonyms.

    """
    if not units:
        return
    import ray

    _configure_ray_data()
    on_gpu = settings.device == "cuda"
    if on_gpu and session.local and session.gpus == 0:
        raise ClusterError(
            "the table is made on cuda, but Ray finds no GPU here", fix="continue it on a machine that has one"
        )
    size = fixed_size(settings.device, session, workers, len(units))
    rows = [{"patients": unit_to_json(unit)} for unit in units]
    reports = (
        ray.data.from_items(rows, override_num_blocks=len(rows))
        .map_batches(
            decode_unit,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=1,
            fn_kwargs={"preset": settings.preset, "options": settings.series_options, "key": key},
            ray_remote_args_fn=gpu_nodes_first() if session.nodes > 1 else None,
        )
        .map_batches(
            NetworkActor,
            batch_size=1,
            batch_format="pyarrow",
            compute=actor_pool(settings.device, session, workers, len(units)),
            # On CPUs the actor reserves none: its threads share the cores with the decoding that feeds it, and
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
    for batch in reports.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        for text in batch.column("report").to_pylist():
            yield UnitReport.from_json(text)


def _configure_ray_data() -> None:
    """Keep a unit in one block, and Ray Data's own progress bars and plans off stderr."""
    import ray

    context = ray.data.DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    if not os.environ.get("LUNGCT_DEBUG"):
        for name in ("ray.data", "ray"):
            # Every failure is also raised here, and lungct prints it in one line.
            logging.getLogger(name).setLevel(logging.CRITICAL)
