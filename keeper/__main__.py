"""`python -m keeper` is the `keeper` command."""

from keeper.cli import main

main()
