"""`python -m headgate.cli`: the same as the program `headgate`."""

from headgate.cli.program import main

main()
