"""Ids as people and file systems write them: one form to compare them in, and hints for ids that nearly match.

forms.py   one Unicode form, and ids that are equal in it
hints.py   why ids of two lists do not match, and the nearest of each
"""

from lungct.ids.forms import canonical, refuse_clashing
from lungct.ids.hints import Hint, find_hints, nearest

__all__ = ["Hint", "canonical", "find_hints", "nearest", "refuse_clashing"]
