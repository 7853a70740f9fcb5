"""A run -> what it means for people: one HTML page to read, mail and open from disk, and the last lines of ``train``.

verdict.py    whether the model beats guessing, in one sentence
worries.py    what a careful reader should know before relying on that
learning.py   the learning curves: which chose the rounds, which were cut off
numbers.py    curves, bins and their limits, computed from the scores
words.py      numbers and intervals as text
drawing.py    a figure -> SVG
closing.py    the last lines of ``train``
page.py       the page, from sections/ (what each section shows) and templates/ (how)
"""

from lungct.reporting.closing import closing_lines, in_brackets
from lungct.reporting.page import render, report

__all__ = ["closing_lines", "in_brackets", "render", "report"]
