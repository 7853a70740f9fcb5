"""A Ray job: extraction, training and prediction, one after another.

ray job submit --working-dir . -- python jobs/pipeline.py SRC --labels CSV --out OUT …

`python jobs/pipeline.py --help` lists its options.
"""

from lungct.cli.jobs import pipeline_entry

if __name__ == "__main__":
    pipeline_entry()
