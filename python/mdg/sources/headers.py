"""Header facts of DICOM files in any transfer syntax, for the rooms that do not use the core themselves.

All functions block: call them in a worker thread."""

from mdg._core import Header, Indexed, index_files, read_header

__all__ = ["Header", "Indexed", "index_files", "read_header"]
