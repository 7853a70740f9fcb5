"""What is in a directory, for people.

    page.py       one patient's directory -> a page of text, or JSON
    archive.py    an archive -> how many patients are usable, and how many of each problem
    montage.py    a series -> a picture: three views, its HU, and what the network sees

The same code reads and chooses here as in extraction, so what this says is what extraction does.
"""

from lungct.inspection.archive import Archive, inspect_all
from lungct.inspection.page import Page, inspect

__all__ = ["Archive", "Page", "inspect", "inspect_all"]
