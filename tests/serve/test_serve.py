"""A real vLLM serves the starter: it answers like the transformers engine, asks for its key, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "swiftshell" / "starter" / "model"
QUESTIONS = ("Carl has a camera. Lena has a bike. What does Lena have?", "徐磊有一只风筝。高洁有一把喇叭。高洁有什么？")

pytestmark = [pytest.mark.serve, pytest.mark.timeout(600)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Served:
    """A running serve step."""

    step: Path
    worker: subprocess.Popen[bytes]
    endpoint: dict[str, Any]

    def ask(self, path: str, body: dict[str, Any] | None = None, *, key: str | None = None) -> Any:
        key = key if key is not None else Path(self.endpoint["key_file"]).read_text().strip()
        request = urllib.request.Request(
            self.endpoint["url"] + path, data=json.dumps(body).encode() if body else None,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as reply:
            return json.loads(reply.read())

    def chat(self, question: str) -> str:
        reply = self.ask("/chat/completions", {"model": self.endpoint["model"], "temperature": 0, "max_tokens": 32,
                                               "messages": [{"role": "user", "content": question}]})
        return str(reply["choices"][0]["message"]["content"])


def start(folder: Path, attempt: int = 1) -> Served:
    """Start the worker on a serve step and wait until its endpoint is there."""
    step = folder / "steps" / "01-serve"
    (step / "attempts" / f"{attempt:03d}").mkdir(parents=True)
    (step / "request.json").write_text(json.dumps({
        "v": 1, "run": "r", "step": "serve", "stage": "serve", "seed": 1, "params": {"port": free_port(), "max_model_len": 256},
        "inputs": {"model": {"kind": "model", "path": str(MODEL), "name": "starter"}}}))
    with (step / "log.txt").open("ab") as log:
        worker = subprocess.Popen([sys.executable, "-m", "swiftshell.worker", str(step), str(attempt)], stdout=log,
                                  stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    endpoint = step / "checkpoints" / "endpoint.json"
    end = time.monotonic() + 400
    while not endpoint.is_file() and worker.poll() is None and time.monotonic() < end:
        time.sleep(0.2)
    if not endpoint.is_file():
        worker.kill()
        pytest.fail((step / "log.txt").read_text()[-3000:])
    return Served(step, worker, json.loads(endpoint.read_text()))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    running = start(tmp_path_factory.mktemp("serve"))
    yield running
    if running.worker.poll() is None:
        running.worker.terminate()
        running.worker.wait(timeout=60)


def family(served: Served) -> set[int]:
    """Return the processes of the served model: the guard and everything below it."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
    found = {served.endpoint["pid"]}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def living(pids: set[int]) -> set[int]:
    """Return those that run; a dead process that nobody has collected yet does not count."""
    found = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                found.add(pid)
        except OSError:
            continue
    return found


def wait_until_gone(pids: set[int], seconds: float) -> set[int]:
    end = time.monotonic() + seconds
    while (left := living(pids)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


@pytest.mark.parametrize("question", QUESTIONS)
def test_served_answers_equal_the_transformers_engine(served: Served, question: str) -> None:
    """Both compute in float32 here, so greedy text must agree."""
    from swiftshell.jobs.chat_process import ChatProcess

    with ChatProcess.start(MODEL, dtype="float32", device="cpu") as chat:
        expected = "".join(chat.ask([{"role": "user", "content": question}], max_new_tokens=32))
    answer = served.chat(question)
    assert answer.strip()
    assert answer == expected


def test_it_serves_the_model_under_its_name(served: Served) -> None:
    assert [m["id"] for m in served.ask("/models")["data"]] == ["starter"]


def test_nobody_asks_without_the_key(served: Served) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        served.ask("/models", key="guessed")
    assert caught.value.code == 401
    key_file = Path(served.endpoint["key_file"])
    assert key_file.stat().st_mode & 0o777 == 0o600
    key = key_file.read_text().strip()
    for pid in family(served):
        assert key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert key not in (served.step / "log.txt").read_text()
    assert key not in (served.step / "events.jsonl").read_text()


def test_a_second_one_on_the_same_port_is_refused_with_the_holder(served: Served) -> None:
    from swiftshell.stages.base import InputRef
    from swiftshell.stages.serve import ServeParams, problems

    port = int(served.endpoint["url"].rsplit(":", 1)[1].split("/")[0])
    found = list(problems(ServeParams(port=port), InputRef("model", MODEL, "model")))
    assert [p.code for p in found] == ["serve.port_taken"]
    assert any(f"(pid {pid})" in found[0].values["who"] for pid in family(served))


# The tests below end what the others share, so they stand last.
def test_a_stop_ends_everything_and_counts_as_done(served: Served) -> None:
    processes = family(served)
    assert len(processes) >= 2
    served.worker.send_signal(signal.SIGTERM)
    assert served.worker.wait(timeout=60) == 0
    assert wait_until_gone(processes, 5) == set()
    outcome = json.loads((served.step / "attempts" / "001" / "outcome.json").read_text())
    assert (outcome["result"], outcome["summary"]["model"]) == ("succeeded", "starter")
    left = {p.name for p in (served.step / "checkpoints").iterdir()}
    assert not left & {"endpoint.json", "api_key"}
    record = (served.step / "out.partial-001" / "endpoint" / "endpoint.json").read_text()
    assert json.loads(record)["url"] == served.endpoint["url"]


def test_a_killed_worker_leaves_no_server_behind(tmp_path: Path) -> None:
    running = start(tmp_path)
    processes = family(running)
    os.killpg(running.worker.pid, signal.SIGKILL)
    running.worker.wait()
    assert wait_until_gone(processes, 40) == set()
