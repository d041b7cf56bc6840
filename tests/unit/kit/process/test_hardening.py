from __future__ import annotations

import os
import subprocess
import sys

import pytest

SECRET, MASTER = "sk-" + "S" * 40, "M" * 44

FORGETTING = """
import os, subprocess, sys
from headgate.kit.process import hardening
hardening.erase_variables(["OPENAI_API_KEY", "HEADGATE_MASTER_KEY"])
with open("/proc/self/environ", "rb") as file:
    kernel = file.read()
child = subprocess.run(["env"], capture_output=True, check=True).stdout
text = kernel + child + repr(dict(os.environ)).encode()
print(b"SSSS" in text or b"MMMM" in text, b"KEPT=visible" in kernel, b"KEPT=visible" in child)
"""

# A child becomes another user and hides, or not; a second child of that same user looks at it.
NEIGHBOURS = """
import ctypes, os, sys
from headgate.kit.process import hardening

def become_other():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        ctypes.CDLL(None).prctl(hardening.PR_SET_DUMPABLE, 1, 0, 0, 0)

def run(work):
    child = os.fork()
    if not child:
        become_other()
        work()
        os._exit(0)
    return child

ready, told = os.pipe()
end, hold = os.pipe()
def hide():
    os.close(hold)
    if sys.argv[1] == "hidden":
        hardening.deny_inspection()
    os.write(told, b"1")
    os.read(end, 1)
hidden = run(hide)
os.read(ready, 1)
def look():
    seen = []
    for name in ("environ", "mem", "maps"):
        try:
            os.close(os.open(f"/proc/{hidden}/{name}", os.O_RDONLY))
            seen.append(name)
        except PermissionError:
            pass
    print(*seen, flush=True)
os.waitpid(run(look), 0)
os.close(hold)
os.waitpid(hidden, 0)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="hides in the manner of Linux")


def run(script: str, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


def test_secrets_of_the_environment_are_gone_from_it_for_everyone() -> None:
    seen = run(FORGETTING, OPENAI_API_KEY=SECRET, HEADGATE_MASTER_KEY=MASTER, KEPT="visible")
    assert seen == "False True True"


def test_process_without_secrets_in_its_environment_has_nothing_to_forget() -> None:
    assert run(FORGETTING, OPENAI_API_KEY="", KEPT="visible") == "False True True"


@pytest.mark.parametrize(("hides", "seen"), [("hidden", ""), ("open", "environ mem maps")])
def test_process_that_hides_cannot_be_read_by_another_of_its_own_user(
    hides: str, seen: str
) -> None:
    assert run(NEIGHBOURS, hides) == seen
