"""An upstream that fails byte for byte as it is told, and logs what an honest one would have sold.

Each script of `catalogue.SCRIPTS` is one fault of the fault plan, by its U id. See
docs/simulator.md.
"""
