"""What several test modules share.

commands.py           run the program as a user does
ct_files.py           CT series as DICOM files, by our own code
tables.py             feature tables and cohorts of scans
planted.py            feature tables with a signal to find, and their labels
stores.py             emulators of object stores
s3_server.py          moto's server, answering one request at a time
hosts.py              hosts on one machine, in network namespaces
pretend_gpu.py        GPUs that Ray believes in
reference_dsb2017.py  a second, plain writing of the preset dsb2017
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
