"""A Ray job: train on a feature table and labels.

ray job submit --working-dir . -- python jobs/train.py DIR --labels CSV --out RUN …

Its options are those of `lungct train --help`.
"""

from lungct.cli.jobs import entry

if __name__ == "__main__":
    entry("train")
