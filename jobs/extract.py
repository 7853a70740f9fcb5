"""A Ray job: scans -> feature table. Its options are those of `lungct extract --help`; --device is cuda by default.

ray job submit --working-dir . -- python jobs/extract.py …
"""

from lungct.cli.jobs import entry

if __name__ == "__main__":
    entry("extract")
