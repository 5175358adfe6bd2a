"""Where images live, one file per kind of source; `Source` is what all of them answer."""

from mdg.sources.folder import FolderSource
from mdg.sources.received import ReceivedSource
from mdg.sources.scan import ScanReport
from mdg.sources.source import Source

__all__ = ["FolderSource", "ReceivedSource", "ScanReport", "Source"]
