"""The subjects of the bench: how each is installed, started and addressed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from bench import figures, machine, traffic

PEERS = {
    figures.LITELLM: ("litellm[proxy]==1.106.2",),
    figures.TENSORZERO: ("tensorzero==2026.6.0",),
}
"""Peers from PyPI, each in an environment of its own under the work folder; never a dependency."""

PROGRAMS = {
    figures.BIFROST: "HEADGATE_BENCH_BIFROST",
    figures.AGENTGATEWAY: "HEADGATE_BENCH_AGENTGATEWAY",
}
"""Peers that are programs: the variable that names the file; without it they are left out."""

OPENAI_KEY = "sk-bench-upstream"
LOCAL = "127.0.0.1/32"
"""Where the upstream listens: a credential that is added must be allowed to go there."""

NGINX_CONFIG = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_buffer_size 256k;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    upstream openai {{
        server 127.0.0.1:{upstream};
        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://openai; }}
        location /stream/ {{ proxy_pass http://openai; proxy_buffering off; }}
    }}
}}
"""

LITELLM_CONFIG = """
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: {key}
general_settings:
  master_key: sk-bench
  disable_spend_logs: true
litellm_settings:
  telemetry: false
"""

TENSORZERO_CONFIG = """
[gateway]
disable_pseudonymous_usage_analytics = true
[gateway.observability]
enabled = false
[models."{model}"]
routing = ["mock"]
[models."{model}".providers.mock]
type = "openai"
model_name = "{model}"
api_base = "http://127.0.0.1:{upstream}/v1/"
api_key_location = "env::OPENAI_API_KEY"
"""


AGENTGATEWAY_CONFIG = """
config:
  workerThreads: 1
  adminAddr: 127.0.0.1:{admin}
  statsAddr: 127.0.0.1:{stats}
  readinessAddr: 127.0.0.1:{ready}
  logging:
    filter: "false"
llm:
  port: {port}
  models:
  - name: {model}
    provider: openAI
    params:
      baseUrl: http://127.0.0.1:{upstream}/v1
      model: {model}
      apiKey: {key}
"""


@dataclass(frozen=True)
class Site:
    """Hold where a run takes place: its folder, the upstream's port, the headgate command."""

    folder: Path
    upstream: int
    headgate: Path
    programs: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Peers that the environment names, from `find_programs`."""

    @property
    def logs(self) -> Path:
        return self.folder / "logs"


@dataclass(frozen=True)
class Subject:
    """Represent a running gateway (or the upstream, then without a process) and how to load it."""

    name: str
    address: traffic.Address
    process: machine.Process | None = None
    verbatim: bool = True
    """Whether answers must be the upstream's bytes; otherwise they must contain usage."""
    streams: int = 512
    slow: bool = False
    """Slow subjects get longer windows."""
    ready_seconds: float = 0.0
    only_calls: bool = False
    """Whether it is measured in the scenarios of short calls only."""

    def pids(self) -> list[int]:
        return self.process.pids() if self.process else []


def start_direct(site: Site) -> Subject:
    return Subject(figures.DIRECT, traffic.Address(site.upstream))


def start_nginx(site: Site) -> Subject:
    """Start nginx as a plain reverse proxy: the limit of what one core can carry."""
    port, folder = machine.free_port(), site.folder / "nginx"
    folder.mkdir(parents=True, exist_ok=True)
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        NGINX_CONFIG.format(folder=folder, port=port, upstream=site.upstream, user=user)
    )
    command = ["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)]
    process = _start(site, figures.NGINX, command, {})
    ready = process.wait_until_ready(f"http://127.0.0.1:{port}/", 10)
    address = traffic.Address(port, stream_path="/stream/v1/chat/completions")
    return Subject(figures.NGINX, address, process, ready_seconds=ready)


def start_headgate(
    site: Site, data: Path | None = None, *, name: str = figures.HEADGATE
) -> Subject:
    """Start Headgate on an empty data folder, or on the `data` of a former start."""
    if data is None:
        data = site.folder / "headgate-data"
        shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True, exist_ok=True)
    port = machine.free_port()
    serve = [str(site.headgate), "serve", "--host", "127.0.0.1"]
    command = [*serve, "--port", str(port), "--data", str(data)]
    # A bench without root may then read the memory of its own child.
    environment = {
        **_openai_environment(site),
        "HEADGATE_ALLOW_DEBUGGING": "true",
        "HEADGATE_EGRESS_ALLOW": LOCAL,
    }
    process = _start(site, name, command, environment)
    ready = process.wait_until_ready(f"http://127.0.0.1:{port}/health/ready", 30)
    key: str = json.loads((data / "first-keys.json").read_text())["inference_key"]
    address = traffic.Address(port, key=key)
    return Subject(figures.HEADGATE, address, process, ready_seconds=ready)


def start_managed(site: Site) -> Subject:
    """Start Headgate once more, with a managed credential and a wallet that pays for its calls."""
    data = site.folder / "managed-data"
    shutil.rmtree(data, ignore_errors=True)
    subject = start_headgate(site, data, name=figures.MANAGED)
    base = f"http://127.0.0.1:{site.upstream}/v1"
    names = ("--managed", "--name", "managed", "--base-url", base)
    for arguments in (
        ("credentials", "add", "openai", "--api-key-stdin", *names),
        ("wallet", "fund", "1000000", "--reference", "bench"),
    ):
        command = [str(site.headgate), *arguments, "--data", str(data)]
        environment = {**os.environ, **_openai_environment(site), "HEADGATE_EGRESS_ALLOW": LOCAL}
        done = subprocess.run(
            command, input=OPENAI_KEY, text=True, capture_output=True, env=environment, check=False
        )
        if done.returncode:
            assert subject.process
            subject.process.stop()
            raise machine.BenchError(f"{' '.join(arguments[:2])} failed: {done.stderr}")
    address = replace(subject.address, credential="managed")
    return replace(subject, name=figures.MANAGED, address=address, only_calls=True)


def start_litellm(site: Site) -> Subject:
    """Start LiteLLM's proxy: one worker, master key only, no database, spend logs off."""
    port, config = machine.free_port(), site.folder / "litellm.yaml"
    config.write_text(
        LITELLM_CONFIG.format(model=traffic.MODEL, upstream=site.upstream, key=OPENAI_KEY)
    )
    options = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    command = [str(_binary(site, figures.LITELLM, "litellm")), *options, "--num_workers", "1"]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    process = _start(site, figures.LITELLM, command, environment)
    ready = process.wait_until_ready(f"http://127.0.0.1:{port}/health/liveliness", 120)
    return Subject(
        figures.LITELLM,
        traffic.Address(port),
        process,
        verbatim=False,
        streams=48,
        slow=True,
        ready_seconds=ready,
    )


def start_tensorzero(site: Site) -> Subject:
    """Start TensorZero's Rust gateway as its wheel embeds it: no database, observability off."""
    config, answer = site.folder / "tensorzero.toml", site.folder / "tensorzero.address"
    config.write_text(TENSORZERO_CONFIG.format(model=traffic.MODEL, upstream=site.upstream))
    answer.unlink(missing_ok=True)
    script = Path(__file__).parent / "tensorzero_gateway.py"
    python = _binary(site, figures.TENSORZERO, "python")
    command = [str(python), str(script), str(config), str(answer)]
    process = _start(site, figures.TENSORZERO, command, _openai_environment(site))
    ready = process.wait_until(lambda: answer.exists() and answer.read_text() != "", 30)
    url = urlsplit(answer.read_text())
    path = f"{url.path.rstrip('/')}/chat/completions"
    model = f"tensorzero::model_name::{traffic.MODEL}"
    return Subject(
        figures.TENSORZERO,
        traffic.Address(url.port or 0, path, path, model=model, metadata=False),
        process,
        verbatim=False,
        streams=192,
        ready_seconds=ready,
    )


def start_bifrost(site: Site) -> Subject:
    """Start Bifrost's HTTP server: no stores, no logs, no keys of its own."""
    port, folder = machine.free_port(), site.folder / "bifrost"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(make_bifrost_config(site.upstream)))
    options = ["-host", "127.0.0.1", "-port", str(port), "-app-dir", str(folder)]
    command = [str(site.programs[figures.BIFROST]), *options, "-log-level", "error"]
    process = _start(site, figures.BIFROST, command, {"GOMAXPROCS": "1"})
    ready = process.wait_until_ready(f"http://127.0.0.1:{port}/health", 60)
    address = traffic.Address(port, model=f"openai/{traffic.MODEL}")
    return Subject(
        figures.BIFROST, address, process, verbatim=False, streams=192, ready_seconds=ready
    )


def make_bifrost_config(upstream: int) -> dict[str, object]:
    """Return the provider with its address, and everything optional off."""
    key = {"name": "bench", "value": OPENAI_KEY, "models": ["*"], "weight": 1.0}
    network = {"base_url": f"http://127.0.0.1:{upstream}", "allow_private_network": True}
    return {
        "client": {"enable_logging": False, "drop_excess_requests": False},
        "config_store": {"enabled": False},
        "logs_store": {"enabled": False},
        "providers": {"openai": {"keys": [key], "network_config": network}},
    }


def start_agentgateway(site: Site) -> Subject:
    """Start agentgateway with one thread, without keys of its own and without its log."""
    port, ready_port = machine.free_port(), machine.free_port()
    config = site.folder / "agentgateway.yaml"
    config.write_text(
        AGENTGATEWAY_CONFIG.format(
            port=port,
            ready=ready_port,
            admin=machine.free_port(),
            stats=machine.free_port(),
            upstream=site.upstream,
            model=traffic.MODEL,
            key=OPENAI_KEY,
        )
    )
    command = [str(site.programs[figures.AGENTGATEWAY]), "-f", str(config)]
    process = _start(site, figures.AGENTGATEWAY, command, {})
    ready = process.wait_until_ready(f"http://127.0.0.1:{ready_port}/healthz/ready", 30)
    return Subject(
        figures.AGENTGATEWAY,
        traffic.Address(port),
        process,
        verbatim=False,
        streams=192,
        ready_seconds=ready,
    )


START: dict[str, Callable[[Site], Subject]] = {
    figures.DIRECT: start_direct,
    figures.NGINX: start_nginx,
    figures.HEADGATE: start_headgate,
    figures.MANAGED: start_managed,
    figures.TENSORZERO: start_tensorzero,
    figures.AGENTGATEWAY: start_agentgateway,
    figures.BIFROST: start_bifrost,
    figures.LITELLM: start_litellm,
}


def is_installed(name: str, site: Site) -> bool:
    if name in PEERS:
        return _binary(site, name, "python").exists()
    if name in PROGRAMS:
        return name in site.programs
    if name in (figures.HEADGATE, figures.MANAGED):
        return site.headgate.exists()
    return name != figures.NGINX or shutil.which("nginx") is not None


def find_programs(environment: Mapping[str, str]) -> dict[str, Path]:
    """Return the peers that the environment names. Raises BenchError for one that is no file."""
    named = {
        name: Path(environment[variable])
        for name, variable in PROGRAMS.items()
        if environment.get(variable)
    }
    for name, path in named.items():
        if not path.is_file():
            raise machine.BenchError(f"{PROGRAMS[name]} names {path}, which is no file")
    return named


def install_peers(folder: Path) -> None:
    """Install the pinned peers from PyPI, each into its own environment below `folder`."""
    for name, packages in PEERS.items():
        print(f"installing {' '.join(packages)}", flush=True)
        environment = _environment(folder, name)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin" / "pip"), "install", "--quiet"]
        subprocess.run([*pip, *packages], check=True)


def version_of(name: str, site: Site) -> str:
    """Return the version of an installed subject, for the record."""
    if name in PEERS:
        return PEERS[name][0].partition("==")[2]
    if name in PROGRAMS:
        # Some print no version: the name of the file stands for it.
        return site.programs[name].name
    commands = {figures.NGINX: ["nginx", "-v"], figures.HEADGATE: [str(site.headgate), "version"]}
    if name not in commands:
        return ""
    done = subprocess.run(commands[name], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).split()[-1].rpartition("/")[2]


def _environment(folder: Path, name: str) -> Path:
    return folder / "venv" / name


def _binary(site: Site, name: str, program: str) -> Path:
    return _environment(site.folder, name) / "bin" / program


def _openai_environment(site: Site) -> dict[str, str]:
    base = f"http://127.0.0.1:{site.upstream}/v1"
    return {"OPENAI_API_KEY": OPENAI_KEY, "OPENAI_BASE_URL": base}


def _start(
    site: Site, name: str, command: list[str], environment: dict[str, str]
) -> machine.Process:
    log = site.logs / f"{name}.log"
    return machine.Process(command, core=machine.GATEWAY_CORE, log=log, environment=environment)
