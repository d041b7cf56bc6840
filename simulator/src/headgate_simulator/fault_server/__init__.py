"""An upstream that fails byte for byte as requested, and logs what an honest provider would charge.

Each script of `catalogue.SCRIPTS` is one fault. docs/simulator.md says how to ask for one.
"""
