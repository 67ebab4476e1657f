"""Talk to one model over standard input and output, one JSON object a line, streaming the answer.

    python -m swiftshell.engines.transformers_chat MODEL_FOLDER [--device cpu|cuda] [--dtype float32]

First line out: {"ready": true, "model", "context", "chat_template", "device"}. Then, for each request line
{"messages": […]} or {"prompt": "…"} (with max_new_tokens, temperature, top_p, seed as wished): {"token": "…"} lines and at
last {"done": true, "tokens", "seconds", "finish_reason"}, or {"error": problem}. {"cancel": true} ends the answer that is
being written. Nothing else is ever written to standard output; the process ends when its input does.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from swiftshell.errors import EXIT_STAGE, SwiftshellError, fail

DEFAULTS = {"max_new_tokens": 512, "temperature": 0.0, "top_p": 1.0, "seed": 0}


def main(argv: list[str]) -> int:
    """Load the model, answer requests until the input ends."""
    parser = argparse.ArgumentParser(prog="transformers_chat")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float16", "float32"), default="auto")
    args = parser.parse_args(argv)
    say = _speaker(_take_stdout())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; whoever started us decides
    requests = Requests()
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        talker = Talker(args.folder.absolute(), args.dtype)
    except SwiftshellError as error:
        say({"error": error.problems[0].as_json()})
        return error.exit_code
    except ModuleNotFoundError as error:
        say({"error": fail("infer.engine_missing", module=error.name).problems[0].as_json()})
        return EXIT_STAGE
    say({"ready": True, **talker.facts})
    while (request := requests.next()) is not None:
        try:
            talker.answer(request, say, requests.cancelled)
        except SwiftshellError as error:
            say({"error": error.problems[0].as_json()})
    return 0


def _take_stdout() -> TextIO:
    """Keep standard output for replies: whatever libraries print goes to standard error instead."""
    sys.stdout.flush()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return replies


def _speaker(replies: TextIO) -> Callable[[Mapping[str, Any]], None]:
    def say(reply: Mapping[str, Any]) -> None:
        try:
            replies.write(json.dumps(reply, ensure_ascii=False) + "\n")
            replies.flush()
        except BrokenPipeError:  # nobody listens any more
            os._exit(0)

    return say


class Requests:
    """Read requests in a thread of their own, so that a cancel or the end of the input is seen during an answer."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self._lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> Any:
        """Return the next request."""
        found = self._lines.get()
        self.cancelled.clear()
        return found

    def _read(self) -> None:
        for line in sys.stdin:
            try:
                request = json.loads(line)
            except ValueError as error:
                request = {"bad": str(error)}
            if isinstance(request, dict) and request.get("cancel"):
                self.cancelled.set()
            elif line.strip():
                self._lines.put(request)
        if log := os.environ.get("SWIFTSHELL_CHAT_LOG"):  # of a shell that was killed and cannot do it
            Path(log).unlink(missing_ok=True)
        os._exit(0)  # whoever asked is gone: an answer nobody reads is not finished


class Talker:
    """A loaded model that answers conversations."""

    def __init__(self, folder: Path, dtype: str) -> None:
        from swiftshell.engines import assemble
        from swiftshell.run import artifact

        assemble.use_available_cores()
        try:
            record = artifact.read(folder)
        except ValueError as error:
            raise fail("infer.unreadable_model", file=str(folder), reason=str(error)) from error
        self.model, self.tokenizer = assemble.assemble(record, folder, dtype=dtype)
        self.context = assemble.context_length(self.model)
        self.facts = {"model": (record or {}).get("name") or folder.name, "context": self.context,
                      "chat_template": bool(self.tokenizer.chat_template), "device": assemble.device()}

    def answer(self, request: Any, say: Callable[[Mapping[str, Any]], None], cancelled: threading.Event) -> None:
        """Stream one answer.

        Raises:
            SwiftshellError: the request is not understood, or too long.
        """
        ids, how = self._prompt(request), _sampling(request)
        if len(ids) >= self.context:
            raise fail("infer.prompt_too_long", tokens=len(ids), limit=self.context)
        started = time.monotonic()
        writer = _Writer(self.model, self.tokenizer, ids, how, self.context, cancelled)
        for piece in writer:
            if piece:
                say({"token": piece})
        if writer.failure is not None:
            raise fail("infer.answer_failed", reason=" ".join(str(writer.failure).split())[:300], exit_code=EXIT_STAGE)
        say({"done": True, "tokens": writer.tokens, "seconds": round(time.monotonic() - started, 3),
             "finish_reason": writer.finish_reason})

    def _prompt(self, request: Any) -> list[int]:
        from swiftshell.engines.generate import prompt_ids

        found = request.get("messages", request.get("prompt")) if isinstance(request, dict) else None
        if not found or not (isinstance(found, str) or _are_messages(found)):
            reason = request.get("bad") if isinstance(request, dict) else None
            raise fail("infer.bad_request", reason=reason or json.dumps(request, ensure_ascii=False)[:200])
        if isinstance(found, str) and self.tokenizer.chat_template:
            found = [{"role": "user", "content": found}]
        try:
            return prompt_ids(self.tokenizer, found)
        except Exception as error:
            raise fail("infer.template_refused", reason=" ".join(str(error).split())[:300]) from error


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(m, dict) and isinstance(m.get("content"), str) and m.get("role")
                                           for m in value)


def _sampling(request: Mapping[str, Any]) -> Any:
    from swiftshell.engines.generate import Sampling

    chosen = {k: request.get(k, usual) for k, usual in DEFAULTS.items()}
    try:
        how = Sampling(int(chosen["max_new_tokens"]), float(chosen["temperature"]), float(chosen["top_p"]),
                       int(chosen["seed"]))
    except (TypeError, ValueError) as error:
        raise fail("infer.bad_request", reason=str(error)) from error
    if how.max_new_tokens < 1 or how.temperature < 0 or not 0 < how.top_p <= 1:
        raise fail("infer.bad_request", reason=json.dumps(chosen))
    return how


class _Pieces:
    """Take tokens as `generate` makes them and hand out the text that is certain, piece by piece.

    A character may take several tokens, so text that ends in the middle of one waits for the next token. Only the last
    few tokens are decoded again each time.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._decode = lambda ids: tokenizer.decode(ids, skip_special_tokens=True)
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._ids: list[int] = []
        self._start = self._told = 0  # tokens before `_start` no longer matter; those before `_told` are handed out
        self._is_prompt = True

    def put(self, value: Any) -> None:
        """Take the prompt (first call), then tokens."""
        if self._is_prompt:
            self._is_prompt = False
            return
        self._ids += value.flatten().tolist()
        self._tell(last=False)

    def end(self) -> None:
        """Hand out what is left; called by `generate`, or by whoever caught its failure."""
        self._tell(last=True)
        self._queue.put(None)

    def _tell(self, *, last: bool) -> None:
        known, now = self._decode(self._ids[self._start:self._told]), self._decode(self._ids[self._start:])
        if len(now) <= len(known) or (now.endswith("\ufffd") and not last):
            return
        self._queue.put(now[len(known):])
        self._start, self._told = self._told, len(self._ids)

    def __iter__(self) -> Any:
        while (piece := self._queue.get()) is not None:
            yield piece


class _Writer:
    """Generate in a thread and yield pieces of text; afterwards `tokens`, `finish_reason` and `failure` are known."""

    def __init__(self, model: Any, tokenizer: Any, ids: list[int], how: Any, context: int,
                 cancelled: threading.Event) -> None:
        self.tokens, self.finish_reason = 0, "cancelled"
        self.failure: Exception | None = None
        self._streamer = _Pieces(tokenizer)
        self._work = (model, tokenizer, ids, how, min(how.max_new_tokens, context - len(ids)), cancelled)

    def __iter__(self) -> Any:
        thread = threading.Thread(target=self._generate)
        thread.start()
        yield from self._streamer
        thread.join()

    def _generate(self) -> None:
        import torch
        from transformers import StoppingCriteriaList

        from swiftshell.engines.generate import generation_settings, stop_ids

        model, tokenizer, ids, how, new_tokens, cancelled = self._work
        ends = stop_ids(model, tokenizer)
        place = model.get_input_embeddings().weight.device

        def stop(input_ids: Any, *_: Any, **__: Any) -> Any:
            return torch.full((input_ids.shape[0],), cancelled.is_set(), dtype=torch.bool, device=input_ids.device)

        try:
            with torch.inference_mode():
                batch = torch.tensor([ids], device=place)
                out = model.generate(input_ids=batch, attention_mask=torch.ones_like(batch), streamer=self._streamer,
                                     stopping_criteria=StoppingCriteriaList([stop]),
                                     **generation_settings(how, new_tokens, ends, tokenizer))
        except Exception as error:  # noqa: BLE001 - told to whoever asked; the process goes on
            self.failure = error
            self._streamer.end()
            return
        answer = out[0, len(ids):].tolist()
        ended = bool(answer) and answer[-1] in ends
        self.tokens = len(answer) - ended
        if ended:
            self.finish_reason = "stop"
        elif not cancelled.is_set():
            self.finish_reason = "length" if new_tokens == how.max_new_tokens else "context"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
