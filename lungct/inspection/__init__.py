"""What is in a directory, for people.

    description.py   a patient's directory -> the series in it, the one that is the scan, and what is unusual
    page.py          that -> a page of text, or JSON
    archive.py       an archive -> how many patients are usable, and how many have which problem
    montage.py       a series -> a picture: three views, its HU, and what the network sees

The code that reads and chooses is the one that extraction uses, so what is shown here is what extraction does.
"""

from lungct.inspection.archive import Archive, inspect_all
from lungct.inspection.description import Description, SeriesDescription, describe
from lungct.inspection.page import Page, inspect

__all__ = ["Archive", "Description", "Page", "SeriesDescription", "describe", "inspect", "inspect_all"]
