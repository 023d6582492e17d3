"""`python -m observer.cli`: the program `flowscope`, for whoever has no console commands installed."""

from observer.cli.main import main

main()
