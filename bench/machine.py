"""The machine under the bench: cores, processes, scheduling class, memory, the native programs."""

from __future__ import annotations

import functools
import os
import platform
import resource
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

GATEWAY_CORE = 0
LOAD_CORE = 1
FIFO_PRIORITY = 10
NATIVE = Path(__file__).parent / "native"


class BenchError(Exception):
    """Report that the bench cannot go on, why, and what to do."""


@dataclass(frozen=True)
class Memory:
    """Hold the memory of a process tree in MiB; `proportional` counts shared pages once."""

    resident: float
    proportional: float


class Process:
    """Represent a process of the bench, pinned to one core, with its output in a log file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=functools.partial(_enter, core),
            )

    def tree(self) -> list[psutil.Process]:
        """Return the process and all its living descendants."""
        try:
            root = psutil.Process(self._popen.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def pids(self) -> list[int]:
        return [process.pid for process in self.tree()]

    def memory(self) -> Memory:
        full = [process.memory_full_info() for process in self.tree()]
        return Memory(sum(m.rss for m in full) / 2**20, sum(m.pss for m in full) / 2**20)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the whole tree: in order, after ten seconds by force."""
        tree = self.tree()
        self.resume()
        self._popen.terminate()
        _, alive = psutil.wait_procs(tree, timeout=10)
        for process in alive:
            process.kill()
        self._popen.wait()

    def wait_until_ready(self, url: str, timeout_seconds: float) -> float:
        """Poll `url` until it answers 200; return the seconds. Otherwise as `wait_until`."""
        return self.wait_until(functools.partial(_answers, url), timeout_seconds)

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float) -> float:
        """Poll `ready` and return the seconds it took; else stop the process, raise BenchError."""
        begin = time.monotonic()
        while time.monotonic() - begin < timeout_seconds:
            if ready():
                return time.monotonic() - begin
            if self._popen.poll() is not None:
                break
            time.sleep(0.005)
        self.stop()
        tail = self.log.read_text(errors="replace")[-1500:]
        raise BenchError(f"{self.log.stem} did not become ready; its last words:\n{tail}")

    def _signal(self, number: signal.Signals) -> None:
        for process in self.tree():
            process.send_signal(number)


def _enter(core: int, priority: int = 0) -> None:
    os.sched_setaffinity(0, {core})
    if priority:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def run_pinned(command: Sequence[str], core: int, priority: int = 0) -> subprocess.Popen[bytes]:
    """Start a short program on `core`, its standard output in a pipe."""
    enter = functools.partial(_enter, core, priority)
    return subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=enter)


def can_use_fifo() -> bool:
    """Return whether this user may give its processes real-time priority."""
    try:
        with run_pinned(["true"], LOAD_CORE, FIFO_PRIORITY):
            return True
    except subprocess.SubprocessError:
        return False


def set_fifo(pids: Iterable[int], *, wanted: bool) -> None:
    """Move every thread of `pids` into SCHED_FIFO, or back to the ordinary class."""
    policy = os.SCHED_FIFO if wanted else os.SCHED_OTHER
    parameter = os.sched_param(FIFO_PRIORITY if wanted else 0)
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setscheduler(int(thread.name), policy, parameter)


def require_two_cores() -> None:
    if not {GATEWAY_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise BenchError("the bench needs cores 0 and 1: one for the gateway, one for the load")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build_native(name: str, into: Path) -> Path:
    """Compile `native/<name>.c` unless the program is newer than its sources."""
    program = into / name
    sources = [NATIVE / f"{name}.c", NATIVE / "http.h"]
    newest = max(source.stat().st_mtime for source in sources)
    if program.exists() and program.stat().st_mtime > newest:
        return program
    into.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(sources[0])]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as failure:
        raise BenchError("the native programs need gcc (package: gcc)") from failure
    return program


def describe() -> dict[str, str]:
    """Return what a reader needs to judge figures: processor, kernel, Python, earlier load."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }
