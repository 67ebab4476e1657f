"""Chat: a process of its own that streams, can be interrupted, and never outlives the shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.jobs.chat_process import ChatProcess
from tests.engines.conftest import Ran

pytestmark = pytest.mark.engine

ASK = [{"role": "user", "content": "What colour is the river?"}]


@pytest.fixture(scope="module")
def chat(tiny: Path) -> Iterator[ChatProcess]:
    with ChatProcess.start(tiny) as process:
        yield process


def test_it_says_what_it_is(chat: ChatProcess) -> None:
    assert chat.facts == {"model": "tiny", "context": 256, "chat_template": True, "device": chat.facts["device"]}


def test_an_answer_comes_in_pieces_and_is_the_greedy_one(chat: ChatProcess, tiny: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pieces = list(chat.ask(ASK, max_new_tokens=24))
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    start = tokenizer.apply_chat_template(ASK, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = AutoModelForCausalLM.from_pretrained(tiny).generate(**start, max_new_tokens=24, do_sample=False, eos_token_id=1)
    assert "".join(pieces) == tokenizer.decode(out[0, start["input_ids"].shape[1]:], skip_special_tokens=True)
    assert len(pieces) > 1
    assert chat.last["finish_reason"] in ("stop", "length")
    assert 0 < chat.last["tokens"] <= 24


def test_an_answer_can_be_interrupted_and_the_next_one_is_clean(chat: ChatProcess) -> None:
    whole = "".join(chat.ask(ASK, max_new_tokens=24))
    answer = chat.ask(ASK, max_new_tokens=200, temperature=5.0, seed=3)
    next(answer)
    chat.cancel()
    assert chat.last["tokens"] < 200
    assert "".join(chat.ask(ASK, max_new_tokens=24)) == whole


def test_asking_again_ends_an_answer_nobody_finished_reading(chat: ChatProcess) -> None:
    whole = "".join(chat.ask(ASK, max_new_tokens=24))
    next(chat.ask(ASK, max_new_tokens=200, temperature=5.0))
    assert "".join(chat.ask(ASK, max_new_tokens=24)) == whole


def test_what_cannot_be_answered_is_said_and_the_process_goes_on(chat: ChatProcess) -> None:
    for question, settings, code in (("boat " * 2000, {}, "infer.prompt_too_long"), (ASK, {"top_p": 7}, "infer.bad_request"),
                                     ([], {}, "infer.bad_request"), (ASK, {"max_new_tokens": "x"}, "infer.bad_request")):
        with pytest.raises(SwiftshellError) as caught:
            list(chat.ask(question, **settings))
        assert caught.value.problems[0].code == code
    assert list(chat.ask("What colour is the cat?", max_new_tokens=5))


def test_an_adapter_answers_as_itself(sft: Ran, chat: ChatProcess) -> None:
    with ChatProcess.start(sft.artifacts["adapter"]) as other:
        assert "".join(other.ask(ASK, max_new_tokens=10)) != "".join(chat.ask(ASK, max_new_tokens=10))


def test_a_model_without_template_continues_plain_text(tiny_plain: Path) -> None:
    with ChatProcess.start(tiny_plain) as chat:
        assert chat.facts["chat_template"] is False
        assert "".join(chat.ask(ASK, max_new_tokens=5)) == "".join(chat.ask(ASK[0]["content"], max_new_tokens=5))


def test_a_folder_that_is_no_model_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SwiftshellError) as caught:
        ChatProcess.start(tmp_path)
    assert caught.value.problems[0].code == "infer.not_a_model"


def test_a_model_that_cannot_be_loaded_is_said_in_one_sentence(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny / "config.json").read_bytes())
    with pytest.raises(SwiftshellError) as caught:
        ChatProcess.start(tmp_path)
    assert caught.value.problems[0].code == "infer.no_weights"
    assert "Traceback" not in str(caught.value)


def test_nothing_but_replies_reaches_standard_output(tiny: Path) -> None:
    """Speak the protocol by hand; every line out is one JSON object, also when the input is not."""
    process = subprocess.Popen([sys.executable, "-m", "swiftshell.engines.transformers_chat", str(tiny)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["ready"] is True
    process.stdin.write("this is no JSON\n\n" + json.dumps({"messages": ASK, "max_new_tokens": 3}) + "\n")
    process.stdin.flush()
    replies = [json.loads(process.stdout.readline())]
    while "done" not in replies[-1]:
        replies.append(json.loads(process.stdout.readline()))
    assert replies[0]["error"]["code"] == "infer.bad_request"
    assert all(set(r) == {"token"} for r in replies[1:-1])
    process.stdin.close()
    assert process.wait(timeout=20) == 0
    assert process.stdout.read() == ""


def test_ctrl_c_at_the_terminal_does_not_end_it(chat: ChatProcess) -> None:
    os.kill(chat._process.pid, signal.SIGINT)
    time.sleep(0.2)
    assert list(chat.ask(ASK, max_new_tokens=3))


def test_it_dies_with_a_shell_that_is_killed(tiny: Path) -> None:
    before = set(Path(tempfile.gettempdir()).glob("swiftshell-chat-*"))
    code = ("import sys, time; from pathlib import Path; from swiftshell.jobs.chat_process import ChatProcess\n"
            "c = ChatProcess.start(Path(sys.argv[1])); print(c._process.pid, flush=True); time.sleep(600)")
    shell = subprocess.Popen([sys.executable, "-c", code, str(tiny)], stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    child = int(shell.stdout.readline())
    shell.kill()
    shell.wait()
    end = time.monotonic() + 20
    while _alive(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _alive(child)
    assert set(Path(tempfile.gettempdir()).glob("swiftshell-chat-*")) <= before


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_shell_side_loads_no_engine() -> None:
    code = ("import sys, swiftshell.jobs.chat_process\n"
            "print(sorted({'torch', 'transformers', 'swiftshell.engines'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# The last test with the shared process, because it ends it.
def test_a_process_that_dies_is_said_with_its_log(chat: ChatProcess) -> None:
    os.kill(chat._process.pid, signal.SIGKILL)
    with pytest.raises(SwiftshellError) as caught:
        list(chat.ask(ASK))
    assert caught.value.problems[0].code == "infer.chat_ended"
    assert Path(caught.value.problems[0].values["log"]).is_file()
