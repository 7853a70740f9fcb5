"""The table of an extraction: checked as far as possible, then owned and ready for rows."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from lungct.backbone import load_weights, parse_weights
from lungct.checks import check_decoders, check_nodes
from lungct.cluster import Session
from lungct.extraction.options import check_same
from lungct.extraction.placement import ComputeDevice, find_device
from lungct.extraction.planning import ExtractPlan, table_settings
from lungct.extraction.request import ExtractRequest
from lungct.features import Settings, TableWriter, remove_table
from lungct.storage import Owner, check_free, own


@dataclass(frozen=True)
class PreparedTable:
    """A table that this process may write to, and the device that its rows will be computed on."""

    writer: TableWriter
    device: ComputeDevice


def check_table_and_weights(request: ExtractRequest, plan: ExtractPlan) -> str:
    """Check all that can be checked without Ray and without changing anything, and return the hash of the weights.

    Raises
    ------
    UsageError
        If the table is not free or cannot be written to, a decoder does not work, or the weights do not load.

    """
    check_free(request.out, take_over=request.take_over)
    check_decoders()
    source = parse_weights(plan.options.weights)
    return load_weights(plan.options.backbone, source, quiet=request.quiet).sha256


def prepare_table(
    request: ExtractRequest, plan: ExtractPlan, weights_sha256: str, session: Session, stack: ExitStack
) -> PreparedTable:
    """Find the device, own the table, check the nodes, and write the table's settings; in this order.

    Parameters
    ----------
    weights_sha256
        What `check_table_and_weights` returned.
    stack
        Releases the table when it is closed.

    Raises
    ------
    UsageError
        If there is no such device, the settings are not the table's, or a node cannot take part.
    ClusterError
        If no GPU becomes available.

    """
    options = plan.options
    device = find_device(options.device, options.precision, session, quiet=request.quiet)
    settings = options.settings(weights_sha256, device)
    if plan.table:
        check_same(plan.table, settings, str(request.out))
    owner = own(request.out, take_over=request.take_over, quiet=request.quiet)
    stack.callback(owner.release)
    if session.nodes > 1:
        check_nodes(request.src, owner)
    return PreparedTable(_open_table(request, owner, settings), device)


def _open_table(request: ExtractRequest, owner: Owner, settings: Settings) -> TableWriter:
    """Empty the table that is to be overwritten, or check again, now as its owner, that its settings are the same."""
    if request.overwrite:
        remove_table(request.out, owner)
    elif (table := table_settings(request.out)) is not None:
        check_same(table, settings, str(request.out))
    writer = TableWriter(request.out, owner, settings)
    writer.write_settings()
    return writer
