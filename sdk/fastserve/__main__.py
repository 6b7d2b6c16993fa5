"""`python -m fastserve` is the command line."""

from fastserve.starting import main

main()
