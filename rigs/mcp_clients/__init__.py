"""The command lines of people's clients, from npm, against a real server on this machine.

    make clients

They need no account for this. npm fetches about a gigabyte, so no test does it by itself.
"""
