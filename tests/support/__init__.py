"""Helpers that several test modules share.

commands.py           run the program as a user does
ct_files.py           write CT series as DICOM files
tables.py             write and read feature tables; write cohorts of scans
planted.py            feature tables with a planted signal, and their labels
runs.py               run directories of made-up scores, and trainings that are killed while they write
stores.py             emulators of object stores, and a proxy that injects faults
s3_server.py          moto's server, answering one request at a time
hosts.py              hosts on one machine, in network namespaces
pretend_gpu.py        GPUs that Ray takes for real
reference_dsb2017.py  an independent, plain implementation of the preset dsb2017
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
