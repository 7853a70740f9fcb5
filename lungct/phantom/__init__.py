"""A seed -> a synthetic cohort: chest phantoms as real DICOM files, and their labels.

    cohort.py    `write_cohort`: which patients there are, and their directories and labels
    anatomy.py   numbers drawn from the seed -> a chest: depths of its organs at any height
    vessels.py   trees of vessels and airways, and their cut through a slice
    nodules.py   nodules and masses, and where they fit in a lung
    variations.py  what may be unusual: diseased lungs, arms, cloth, a prone body, other fields of view
    render.py    all of these at one height -> a slice in Hounsfield units
    noise.py     noise for a whole cohort
    fields.py    depth fields, which the shapes are computed on
    objects.py   slices -> CT Image Storage objects, the same bytes every time

Coordinates are DICOM's patient system in millimetres: x to the patient's left, y to the back, z to the head.

Half of the patients, rounded down, have nodules (label 1). Anatomy and noise are drawn independently of the label, so
nothing but the nodules tells the two halves apart. A patient depends on the seed, its index and the settings of the
cohort alone, never on the time, the host or the other patients. The phantoms are for trying the software: they must
never be taken as a measure of what a model would do on people.
"""

from lungct.phantom.cohort import CohortSummary, write_cohort
from lungct.phantom.variations import Variation

__all__ = ["CohortSummary", "Variation", "write_cohort"]
