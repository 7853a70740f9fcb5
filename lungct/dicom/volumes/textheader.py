"""What the headers of NRRD and MetaImage have in common: fields, a line each, and the file that has the voxels."""

from __future__ import annotations

import errno
import math
import os
import stat

from lungct.dicom import elements
from lungct.dicom.discovery import open_file
from lungct.dicom.volumes.header import undecodable, unplaced
from lungct.storage import storage_faults
from lungct.storage.volumefiles import MAX_HEADER_BYTES, plain_name


def read_start(path: str) -> bytes:
    """Return as much of a file as its header may take.

    Raises
    ------
    StorageError
        If the file cannot be read.

    """
    with open_file(path) as fd:
        return elements.read_fully(fd, 0, MAX_HEADER_BYTES)


def file_beside(header: str, named: str) -> str:
    """Return the path of the file of the voxels that a header names.

    A header is a stranger's text, and any other path would make it a way to read any file of the machine.

    Raises
    ------
    SeriesError
        ``undecodable``, if it is not a file in the header's directory.

    """
    name = plain_name(named)
    if name is None:
        elsewhere = named == ".." or "/" in named or "\\" in named
        which = "a data file outside its directory" if elsewhere else "several data files, which are not read together"
        raise undecodable(f"the volume's header names {which}")
    path = os.path.join(os.path.dirname(header), name)
    with storage_faults("a file of the patient cannot be read"):
        try:
            is_file = stat.S_ISREG(os.stat(path).st_mode)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                raise
            is_file = False
    if not is_file:
        raise undecodable("the volume's header names a data file that is not there")
    return path


def whole_numbers(text: str, what: str) -> list[int]:
    """Return a field's whole numbers.

    Raises
    ------
    SeriesError
        ``undecodable``, if it has anything else.

    """
    try:
        return [int(part) for part in text.split()]
    except ValueError:
        raise undecodable(f"the volume's header is damaged: {what} is not in whole numbers") from None


def numbers(text: str, count: int, what: str) -> list[float]:
    """Return a field's numbers, of which it must have ``count``.

    Raises
    ------
    SeriesError
        ``geometry``, if it has anything else.

    """
    try:
        values = [float(part) for part in text.split()]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise unplaced(f"the volume's header is damaged: {what} does not have {count} numbers")
    return values
