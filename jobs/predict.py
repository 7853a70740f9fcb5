"""A Ray job: predict from a run and a feature table.

ray job submit --working-dir . -- python jobs/predict.py RUN DIR --out CSV …

Its options are those of `lungct predict --help`.
"""

from lungct.cli.jobs import entry

if __name__ == "__main__":
    entry("predict")
