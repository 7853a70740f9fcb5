"""A Ray job: extract features from scans into a table, on a GPU unless --device is given or the table exists.

ray job submit --working-dir . -- python jobs/extract.py SRC --out DIR …

Its options are those of `lungct extract --help`.
"""

from lungct.cli.jobs import entry

if __name__ == "__main__":
    entry("extract")
