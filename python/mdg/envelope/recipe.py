"""Bytes on demand: a `Recipe` makes any range of a finished envelope and checks each piece before it is given
(spec/storage 5). Both types are the core's; here they get their place among the rooms."""

from mdg._core import Recipe, Stream

__all__ = ["Recipe", "Stream"]
