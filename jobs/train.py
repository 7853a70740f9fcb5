"""A Ray job: train on a feature table and labels. Its options are those of `lungct train --help`.

ray job submit --working-dir . -- python jobs/train.py …
"""

from lungct.cli.jobs import entry

if __name__ == "__main__":
    entry("train")
