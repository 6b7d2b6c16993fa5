"""`python -m fastserve` is the command line."""

from fastserve.cli import main

main()
