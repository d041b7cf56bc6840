"""A stand-in for OpenAI that speaks the same HTTP: deterministic, strict, and labelled as such.

Every answer carries `x-headgate-simulator: true`. The rules are in docs/simulator.md.
"""
