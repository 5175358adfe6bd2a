"""Where images live: `source` says what every kind of source answers, and each kind has a file of its own.

This file imports none of them: `mdg pack` reads headers and facts by the rules of this room, and needs no database.
"""
