"""Asks for a password at the terminal, or takes it from standard input."""

from __future__ import annotations

import sys

import typer

from headgate.accounts.model import WeakPasswordError, check_email, check_password
from headgate.accounts.service import PasswordHasher


def ask_email(email: str | None) -> str:
    """The address that was given, or asked for now. Raises `InvalidEmailError`."""
    return check_email(email if email is not None else typer.prompt("E-mail"))


def ask_password_hash(email: str, *, from_stdin: bool) -> str:
    """What is stored of a new password; it is never shown, and never in an argument.

    Raises `WeakPasswordError` for a weak one.
    """
    if from_stdin:
        given = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        given = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        raise WeakPasswordError("There is no terminal to ask for a password: use --password-stdin.")
    password = check_password(given, email=email)
    hasher = PasswordHasher()
    try:
        return hasher.hash_blocking(password)
    finally:
        hasher.close()
