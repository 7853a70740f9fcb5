"""What is in a directory, for people.

    choices.py       the series of a patient in the order of choice, and what each step said
    description.py   a patient's files -> the series in them, which one is the scan, and what is unusual
    asking.py        what the sandbox's child is asked about a patient's files, which this process does not open
    page.py          a description -> a page of text, or JSON
    archive.py       an archive -> each of its series, which patients are usable, and why the others are not
    locations.py     where the files of a series are
    montage.py       a series -> a picture: three views, its HU, and what the network sees

Files are read and the series is chosen by the same code as in extraction, so what is shown is what extraction does.
"""

from lungct.inspection.archive import Archive, inspect_all
from lungct.inspection.description import Description, SeriesDescription, describe
from lungct.inspection.page import Page, inspect

__all__ = ["Archive", "Description", "Page", "SeriesDescription", "describe", "inspect", "inspect_all"]
