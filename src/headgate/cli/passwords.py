"""Reads an e-mail address and a password from the terminal or standard input."""

from __future__ import annotations

import sys

import typer

from headgate.accounts.model import WeakPasswordError, check_email, check_password
from headgate.accounts.service import PasswordHasher


def ask_email(email: str | None) -> str:
    """Return the given address, or prompt for one. Raise `InvalidEmailError`."""
    return check_email(email if email is not None else typer.prompt("E-mail"))


def ask_password_hash(email: str, *, from_stdin: bool) -> str:
    """Read a new password and return its hash. Raise `WeakPasswordError`.

    A password is never echoed, and never taken from an argument, which other processes could read.
    """
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        raise WeakPasswordError("There is no terminal to ask for a password. Use --password-stdin.")
    password = check_password(password, email=email)
    # Its threads would keep the command from ending.
    hasher = PasswordHasher()
    try:
        return hasher.hash_blocking(password)
    finally:
        hasher.close()
