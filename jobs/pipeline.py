"""A Ray job: extraction, training and prediction, one after another; see its --help.

ray job submit --working-dir . -- python jobs/pipeline.py SRC --labels CSV --out OUT …
"""

from lungct.cli.jobs import pipeline_entry

if __name__ == "__main__":
    pipeline_entry()
