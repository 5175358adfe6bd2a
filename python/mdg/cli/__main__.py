"""`python -m mdg.cli`, the same as `mdg`."""

from mdg.cli import main

main()
