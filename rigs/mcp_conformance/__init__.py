"""The official conformance tests of the Model Context Protocol, against Headgate's own parts.

    make conformance                                  # everything
    make conformance ARGS="server 2026-07-28"         # one part, one revision

`fixture.py` is the server that the tests of servers call, mounted where Headgate mounts its own;
`client.py` is the command that the tests of clients start. What is known not to pass is in
`expected.yaml`, with its reason.
"""
