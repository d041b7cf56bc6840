"""Every connector is whole, and so is one that was just scaffolded."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.connectors.service import registry
from headgate.connectors.service.registry import ConnectorRegistry
from tools import check_connectors, new_connector

ROOT = Path(__file__).parents[2]


def test_connectors_are_whole() -> None:
    assert check_connectors.list_faults() == []


def test_a_new_connector_is_whole_and_its_tests_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert new_connector.find_fault("imagined_service", tmp_path) is None
    (tmp_path / ".importlinter").write_text((ROOT / ".importlinter").read_text())
    made = new_connector.make("imagined_service", tmp_path)
    assert "already" in (new_connector.find_fault("imagined_service", tmp_path) or "")
    # Beside the real package, as if the files were in it.
    package = importlib.import_module("headgate.connectors")
    folder = tmp_path / new_connector.CONNECTORS
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    [connector] = ConnectorRegistry.load(folder).list()
    [action] = connector.actions
    assert action.tool_name == "imagined_service_find_things"
    faults = check_connectors.list_faults(folder, tmp_path / "tests" / "unit" / "connectors")
    # The catalog of the package does not have its entry.
    assert faults == ["imagined_service: the catalog has no integration imagined_service"]
    [tests] = [path for path in made if path.name.startswith("test_")]
    namespace: dict[str, object] = {}
    exec(compile(tests.read_text(), str(tests), "exec"), namespace)
    for name, value in namespace.items():
        if name.startswith("test_") and callable(value):
            value()
    assert "| imagined_service\n" in (tmp_path / ".importlinter").read_text()
    ruff = [str(Path(sys.executable).with_name("ruff"))]
    config = ["--quiet", "--config", str(ROOT / "pyproject.toml"), str(tmp_path)]
    # Outside of the package, its modules count as somebody else's, which are sorted elsewhere.
    subprocess.run([*ruff, "check", "--ignore", "I001", *config], check=True, timeout=60)
    subprocess.run([*ruff, "format", "--check", *config], check=True, timeout=60)


@pytest.mark.parametrize("name", ["", "Weather", "9lives", "a-b", "x" * 33, "../x"])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    assert new_connector.find_fault(name, tmp_path) is not None


def test_start_reads_manifests_and_imports_no_action() -> None:
    program = (
        "import sys\n"
        "from headgate.connectors.service.registry import ConnectorRegistry\n"
        "assert ConnectorRegistry.load().list()\n"
        "loaded = [name for name in sys.modules if name.endswith('.actions')]\n"
        "assert loaded == [], loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_connectors_stand_in_the_layers_of_the_package() -> None:
    contract = (ROOT / ".importlinter").read_text()
    [line] = [each for each in contract.splitlines() if "brave_search" in each]
    named = {each.strip() for each in line.split("|")}
    assert named == {path.parent.name for path in registry.FOLDER.glob("*/manifest.toml")}
