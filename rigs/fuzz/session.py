"""Fuzz one target with atheris, in a process of its own, and read the outcome."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rigs.fuzz.growth import measure_growth
from rigs.fuzz.targets import REGRESSIONS, Target

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".fuzz"
"""Corpora that grow from run to run, dictionaries, logs."""
INPUT_SECONDS_MAX = 10

_RUNS = re.compile(r"(?:Done|#)\s*(\d+)")
_COVERAGE = re.compile(r"cov: (\d+)")
_ARTIFACT = re.compile(r"Test unit written to (\S+)")


@dataclass(frozen=True)
class Outcome:
    """Hold what a session found. `coverage` counts edges, `growth` is of time for 8 times the
    bytes.
    """

    target: str
    executions: int
    seconds: float
    coverage: int
    growth: float
    findings: tuple[str, ...]


def fuzz(target: Target, seconds: int) -> Outcome:
    """Run until the time is over or a check raises; the failing input is saved in
    `tests/golden/fuzz`.
    """
    folder = write_corpus(target)
    artifacts = REGRESSIONS / target.name
    artifacts.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "rigs.fuzz.worker", target.name),
        f"-max_total_time={seconds}",
        f"-max_len={target.bytes_max}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-dict={folder / 'dictionary'}",
        f"-artifact_prefix={artifacts}/",
        "-print_final_stats=1",
        str(folder / "corpus"),
        str(artifacts),
    ]
    log = folder / "run.log"
    with log.open("wb") as output:
        status = subprocess.run(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode
    if not any(artifacts.iterdir()):
        artifacts.rmdir()
    text = log.read_text("utf-8", "replace")
    findings = _ARTIFACT.findall(text)
    if status and not findings:
        findings = [f"atheris ended with {status}, see {log.relative_to(ROOT)}"]
    growth = max(measure_growth(target, word) for word in target.words)
    return read_outcome(target, text, seconds, growth=growth, findings=findings)


def read_outcome(
    target: Target, text: str, seconds: float, *, growth: float, findings: list[str]
) -> Outcome:
    """Read the figures from libFuzzer's log."""
    runs = [int(number) for number in _RUNS.findall(text)]
    coverage = [int(number) for number in _COVERAGE.findall(text)]
    return Outcome(
        target.name,
        max(runs, default=0),
        seconds,
        max(coverage, default=0),
        growth,
        tuple(findings),
    )


def write_corpus(target: Target) -> Path:
    """Write the seeds as a corpus, and the words as a dictionary of libFuzzer."""
    folder = PLACE / target.name
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.read_short_seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = ['"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in target.words]
    (folder / "dictionary").write_text("\n".join(words) + "\n")
    return folder
