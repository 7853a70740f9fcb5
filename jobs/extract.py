"""A Ray job: extract features from scans into a table. Its options are those of `lungct extract --help`; a new table is made on a
GPU unless --device is given.

    ray job submit --working-dir . -- python jobs/extract.py …
"""

from lungct.cli.jobs import entry

if __name__ == "__main__":
    entry("extract")
