"""What is in a directory, for people.

    description.py   a patient's directory -> the series in it, which one is the scan, and what is unusual
    page.py          a description -> a page of text, or JSON
    archive.py       an archive -> how many patients are usable, and how many have which problem
    montage.py       a series -> a picture: three views, its HU, and what the network sees

Files are read and the series is chosen by the same code as in extraction, so what is shown is what extraction does.
"""

from lungct.inspection.archive import Archive, inspect_all
from lungct.inspection.description import Description, SeriesDescription, describe
from lungct.inspection.page import Page, inspect

__all__ = ["Archive", "Description", "Page", "SeriesDescription", "describe", "inspect", "inspect_all"]
