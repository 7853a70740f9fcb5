"""The real pipeline, commits included, over 100,000 patients, with reading and the network replaced by sleeps.

usage: python bench/scale.py [--patients 100000] [--decoders 24] [--gpus 4] [--decode 0.18] [--network 0.024]
                             [--triplets 6] [--directory DIR]

Real: listing, units, Ray Data with its scheduling and back-pressure, the network's actors, staging, commits, reading
the table's entries, and the same extraction again. Sleeps: decoding a patient (--decode, in seconds on one core: 179
slices of 1 ms) and the forward passes (--network: 60 triplets at 2,500 per second, which is an assumption about a GPU).
For each patient --triplets cross the object store, fewer than the 60 of a real patient, because this machine copies
them all itself. Prints a line every 30 s and a table at the end. The results are in docs/scale.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GIB = 1 << 30


def main() -> None:
    options = parse()
    root = Path(options.directory)
    src, out = root / "scans", root / "features"
    shutil.rmtree(out, ignore_errors=True)
    make_archive(src, options.patients)

    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray

    import lungct
    from lungct.extraction import placement, preparation
    from lungct.features import read_entries
    from lungct.patients import list_patients

    ray.init(
        address="local",
        num_cpus=options.decoders,
        num_gpus=options.gpus,
        include_dashboard=False,
        object_store_memory=options.store_gib * GIB,
        log_to_driver=False,
        runtime_env={
            "worker_process_setup_hook": "simulated.hook",
            "env_vars": {
                "PYTHONPATH": f"{HERE}:{HERE.parent}",
                "SIMULATED_DECODE_SECONDS": str(options.decode),
                "SIMULATED_NETWORK_SECONDS": str(options.network),
                "SIMULATED_TRIPLETS": str(options.triplets),
            },
        },
    )
    patched: Any = preparation
    patched.find_device = lambda *_, **__: placement.ComputeDevice("cuda", "bf16", "a simulated GPU")
    begun = time.perf_counter()
    found = list_patients(src, depth=1, without=out)
    listing = time.perf_counter() - begun
    assert len(found) == options.patients

    watch = Watch(out)
    begun = time.perf_counter()
    summary = lungct.extract(src, out, backbone="resnet18", weights="random:1", device="cuda", quiet=False)
    extraction = time.perf_counter() - begun
    watch.stop()
    assert summary.extracted == options.patients
    begun = time.perf_counter()
    assert len(read_entries(out)) == options.patients
    indexing = time.perf_counter() - begun
    begun = time.perf_counter()
    assert lungct.extract(src, out).skipped == options.patients
    resuming = time.perf_counter() - begun
    ray.shutdown()

    units = -(-options.patients // 8)
    ideal = max(
        options.patients * options.decode / options.decoders,
        options.patients * options.network / options.gpus,
    )
    for name, value in (
        ("patients", f"{options.patients}"),
        ("decoding processes, network actors", f"{options.decoders}, {options.gpus}"),
        ("extraction", f"{extraction:.0f} s, {options.patients / extraction:.1f} patients/s"),
        ("the sleeps alone", f"{ideal:.0f} s, {options.patients / ideal:.1f} patients/s"),
        ("commits", f"{units}, {units / extraction:.1f} a second"),
        ("driver's memory", f"{watch.early_gib:.2f} GiB early, {watch.most_gib:.2f} at most"),
        ("object store", f"{watch.store_gib:.2f} of {options.store_gib} GiB at most"),
        ("listing SRC", f"{listing:.1f} s"),
        ("reading the table's entries", f"{indexing:.1f} s"),
        ("the same again (nothing to do)", f"{resuming:.1f} s"),
        ("driver's processor time", f"{resource.getrusage(resource.RUSAGE_SELF).ru_utime:.0f} s"),
    ):
        print(f"{name:<36} {value}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=100_000)
    parser.add_argument("--decoders", type=int, default=24)
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--decode", type=float, default=0.18)
    parser.add_argument("--network", type=float, default=0.024)
    parser.add_argument("--triplets", type=int, default=6)
    parser.add_argument("--store-gib", type=int, default=2)
    parser.add_argument("--directory", default="/tmp/lungct-scale")
    return parser.parse_args()


def make_archive(src: Path, patients: int) -> None:
    """Make an empty directory for each patient."""
    shutil.rmtree(src, ignore_errors=True)
    src.mkdir(parents=True)
    for i in range(patients):
        (src / f"{i:07d}").mkdir()


class Watch:
    """The driver's memory and the use of the object store, sampled every few seconds."""

    def __init__(self, out: Path) -> None:
        self.early_gib = self.most_gib = self.store_gib = 0.0
        self._out, self._begun, self._ended = out, time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        import ray

        printed = 0.0
        while not self._ended.wait(3):
            spent = time.monotonic() - self._begun
            memory = resident_gib()
            self.most_gib = max(self.most_gib, memory)
            if not self.early_gib and spent > 60:
                self.early_gib = memory
            total = ray.cluster_resources().get("object_store_memory", 0)
            free = ray.available_resources().get("object_store_memory", total)
            self.store_gib = max(self.store_gib, (total - free) / GIB)
            if spent - printed >= 30:
                printed = spent
                shards = len(os.listdir(self._out / "features")) if self._out.exists() else 0
                print(
                    f"{spent:6.0f} s  {shards} files  driver {memory:.2f} GiB  store {(total - free) / GIB:.2f} GiB",
                    file=sys.stderr,
                    flush=True,
                )


def resident_gib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / GIB


if __name__ == "__main__":
    main()
