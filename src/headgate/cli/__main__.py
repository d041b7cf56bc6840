"""`python -m headgate.cli`: the same as the program `headgate`."""

from headgate import cli

cli.main()
