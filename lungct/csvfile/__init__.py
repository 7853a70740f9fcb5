"""CSV files, as people and spreadsheets write them, and as lungct writes them.

decoding.py   bytes -> text: UTF-8, UTF-16 or Windows-1252; workbooks and packed files are refused by what they are
reading.py    text -> a header line and rows, separated by commas, semicolons or tabs
writing.py    rows -> UTF-8, separated by commas
"""

from lungct.csvfile.reading import CsvFile, Problem, cannot_be_used, id_problems, read_csv, read_records
from lungct.csvfile.writing import csv_bytes

__all__ = ["CsvFile", "Problem", "cannot_be_used", "csv_bytes", "id_problems", "read_csv", "read_records"]
