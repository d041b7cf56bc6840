"""The gateway and the simulator are two distributions; only the simulator injects faults."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GATEWAY = ROOT / "src" / "headgate"
LOADER = "main/simulator.py"
FAULT_MARKS = ("x-simulator-fault", "@fault:", "fault_server", "FaultServer")
"""What only code that injects faults has a use for."""
WITHOUT_SIMULATOR = """
import sys
sys.path = [each for each in sys.path if not each.endswith("simulator/src")]
sys.argv = ["headgate", *sys.argv[1:]]
from headgate.cli import main
main()
"""


def read_project(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


def test_wheel_of_the_gateway_holds_the_gateway_alone() -> None:
    project = read_project(ROOT / "pyproject.toml")
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["src/headgate"]}


def test_gateway_has_no_code_that_injects_faults() -> None:
    found = {
        path.relative_to(GATEWAY).as_posix()
        for path in GATEWAY.rglob("*.py")
        if any(mark in path.read_text() for mark in FAULT_MARKS)
    }
    assert found == set()


def test_gateway_names_the_package_of_the_simulator_in_one_place() -> None:
    found = {
        path.relative_to(GATEWAY).as_posix()
        for path in GATEWAY.rglob("*.py")
        if "headgate_simulator" in path.read_text()
    }
    assert found == {LOADER}


def test_both_have_one_version_and_one_range_of_each_library() -> None:
    gateway = read_project(ROOT / "pyproject.toml")["project"]
    simulator = read_project(ROOT / "simulator" / "pyproject.toml")["project"]
    version = gateway["version"]
    assert simulator["version"] == version
    assert gateway["optional-dependencies"]["simulator"] == [f"headgate-simulator=={version}"]
    own = set(simulator["dependencies"]) - set(gateway["dependencies"])
    assert own == {f"headgate=={version}"}


@pytest.mark.parametrize("command", [("serve", "--simulator"), ("simulate",)])
def test_command_says_what_to_install_where_there_is_no_simulator(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SIMULATOR, *command],
        env={"HEADGATE_DATA": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "headgate: The simulator is not installed; add it: pip install 'headgate[simulator]', "
        "or pip install ./simulator in a checkout."
    ]
    assert not (tmp_path / "data").exists()


def test_help_lists_the_simulator_where_it_is_not_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SIMULATOR, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "simulate" in done.stdout
