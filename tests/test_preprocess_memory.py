"""Memory that one scan frees is there for the next."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.ct_files import write_series

PAGES_OF_THE_NEXT_SCAN = """
import resource, sys
import lungct
from lungct.preprocess import prepare

series = lungct.read_series(sys.argv[1])
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    prepare(series, "lung")
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how freed memory is kept depends on the C library")
def test_a_scan_takes_no_new_memory_from_the_system_if_the_one_before_was_as_large(tmp_path: Path) -> None:
    hu = np.full((512, 512), -1000)
    hu[50:400, 50:450] = 40
    hu[100:350, 90:230] = hu[100:350, 270:410] = -850
    write_series(tmp_path / "p", slices=24, pixels=lambda i: hu + 1024)
    command = [sys.executable, "-c", PAGES_OF_THE_NEXT_SCAN, str(tmp_path / "p")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200  # its slices take 6 MiB, and with HU and triplets 2,000 pages
