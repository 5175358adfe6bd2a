"""Bytes on demand: a `Recipe` makes any range of a finished envelope and checks each piece before it is given
(architecture "Bytes"). Both types are the core's; here they get their place among the rooms."""

from mdg._core import Recipe, Stream

__all__ = ["Recipe", "Stream"]
