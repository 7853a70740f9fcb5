"""A run directory -> one HTML page that a colleague can read, mail and open from disk.

run.py        what of the run directory the page needs
numbers.py    curves, bins and their limits, computed from the scores
figures.py    the figures, as SVG
page.py       what the page says, through report.html
"""

from lungct.reporting.page import report

__all__ = ["report"]
