"""A run directory -> one HTML page that a colleague can read, mail and open from disk.

numbers.py    curves, bins and their limits, computed from the scores
figures.py    the figures, as SVG
page.py       the text of the page, through report.html
"""

from lungct.reporting.page import render, report

__all__ = ["render", "report"]
