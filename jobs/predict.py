"""A Ray job: predict from a run and a feature table. Its options are those of `lungct predict --help`.

ray job submit --working-dir . -- python jobs/predict.py …
"""

from lungct.cli.jobs import entry

if __name__ == "__main__":
    entry("predict")
