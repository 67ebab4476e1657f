"""Compare two models on the same tokens: largest logit difference, Kullback-Leibler divergence, top-1 agreement.

The logits of the first model are kept on disk, so that both need not be in memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from swiftshell.engines.generate import completion_ids, logits_of

_MOST_TOKENS = 256  # per probe text: with a vocabulary of 150,000 its logits take 150 MB of disk
_ENOUGH_TOKENS = 256  # of a model's own texts; with fewer, built-in ones are added

# What is read when nothing better is known of a model. Answers are teacher-forced; nothing is generated.
PROBES: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("请用一句话介绍北京。", "北京是中国的首都，有三千多年的历史。"),
    ("Tom has a red kite. Anna has a blue ball. What does Anna have?", "Anna has a blue ball."),
    ("小明有一本书。小红有一支笔。小红有什么？", "小红有一支笔。"),
    ("List three fruits.", "1. Apple\n2. Banana\n3. Orange"),
    ("把下面的句子翻译成英文：今天天气很好。", "The weather is very nice today."),
    ("Write one sentence about the sea.", "The sea was calm, and the little boat drifted slowly towards the shore."),
    ("写一句关于春天的话。", "春天来了，花儿开了，小鸟在树上唱歌。"),
    ("What is 7 + 5?", "7 + 5 = 12"),
    ("12 减 4 等于多少？", "12 - 4 = 8"),
    ("Why do leaves fall in autumn?", "Trees drop their leaves to save water during the cold months."),
    ("怎样煮鸡蛋？", "水开后放入鸡蛋，煮八到十分钟即可。"),
    ("def add(a, b):", "    return a + b"),
    ("Once upon a time", "there was a little girl who loved to play outside in the park."),
    ("请给我一个建议。", "早睡早起，多喝水，多运动。"),
    ("Thank you!", "You're welcome. Is there anything else I can help you with?"),
)


@dataclass(frozen=True)
class Comparison:
    """How far a second model is from a first, over every position of every probe text.

    Attributes:
        max_logit_diff: largest absolute difference of a logit.
        mean_kld: mean KL(first || second) in nats per token.
        top1_agreement: share of positions where both find the same token most likely.
        perplexity_ratio: second's perplexity over first's; shown, never a gate (a worse model can have the better one).
        tokens: positions compared.
    """

    max_logit_diff: float
    mean_kld: float
    top1_agreement: float
    perplexity_ratio: float
    tokens: int

    def as_json(self) -> dict[str, float]:
        """Return the numbers as JSON-ready facts."""
        return asdict(self)


def probe_rows(tokenizer: Any, record: Mapping[str, Any], count: int, context: int) -> list[list[int]]:
    """Return up to `count` token sequences: what the model was trained on, else (or if that is little) built-in texts.

    A small model's difference on texts foreign to it says nothing about its work, so its own come first.
    Built-in texts in a writing that the tokenizer can only spell byte by byte are left out: nobody would ask them.
    """
    own = _recorded(record)[:count]
    if sum(map(len, own)) >= _ENOUGH_TOKENS:
        return [ids[: min(_MOST_TOKENS, context)] for ids in own]
    built_in = []
    for question, answer in PROBES:
        prompt, completion = completion_ids(tokenizer, _messages(tokenizer, question), answer)
        if len(completion) <= 2 * len(answer) + 2:
            built_in.append([*prompt, *completion])
    rows = [*own, *built_in][:count]
    return [ids[: min(_MOST_TOKENS, context)] for ids in rows if ids]


def data_rows(tokenizer: Any, rows: Sequence[Any], context: int) -> list[list[int]]:
    """Return token sequences of held-out rows: each prompt with its reference, else with its desirable completion."""
    found = []
    for row in rows:
        answer = row.reference if row.reference is not None else (row.good[0] if row.good else "")
        prompt, completion = completion_ids(tokenizer, row.prompt, answer, row.tools)
        found.append([*prompt, *completion][: min(_MOST_TOKENS, context)])
    return [ids for ids in found if ids]


def _messages(tokenizer: Any, question: str) -> Any:
    return [{"role": "user", "content": question}] if tokenizer.chat_template else question + "\n\n"


def _recorded(record: Mapping[str, Any]) -> list[list[int]]:
    """Return the token ids of the probe that training recorded, if there is one."""
    probe = record.get("probe") or {}
    rows = probe.get("rows") or [] if isinstance(probe, Mapping) else []
    return [[int(i) for key in ("prompt_ids", "completion_ids") for i in str(row.get(key, "")).split()] for row in rows]


class Recorded:
    """The logits of one model on the probe texts, one file a text."""

    def __init__(self, folder: Path, name: str, rows: Sequence[Sequence[int]]) -> None:
        self._folder, self._name, self.rows = folder, name, rows
        folder.mkdir(parents=True, exist_ok=True)

    def record(self, model: Any, tell: Callable[[int], None]) -> Recorded:
        """Run the model over every text and keep its logits (float32); return self."""
        for number, ids in enumerate(self.rows):
            torch.save(logits_of(model, ids), self._path(number))
            tell(number + 1)
        return self

    def logits(self, number: int) -> torch.Tensor:
        """Return the logits (seq, vocab) of one text."""
        return torch.load(self._path(number), weights_only=True)

    def compared_with(self, other: Recorded) -> Comparison:
        """Return how far `other` is from this one."""
        return _compare(self.rows, self.logits, other.logits)

    def forget(self) -> None:
        """Delete the files."""
        for number in range(len(self.rows)):
            self._path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:03d}.pt"


def _compare(rows: Sequence[Sequence[int]], first: Callable[[int], torch.Tensor],
             second: Callable[[int], torch.Tensor]) -> Comparison:
    largest, kld, same, tokens, log_ratio, predicted = 0.0, 0.0, 0, 0, 0.0, 0
    for number, ids in enumerate(rows):
        one, two = first(number), second(number)
        largest = max(largest, float((one - two).abs().max()))
        log_one, log_two = one.log_softmax(-1), two.log_softmax(-1)
        kld += float((log_one.exp() * (log_one - log_two)).sum(-1).clamp(min=0).sum())
        same += int((one.argmax(-1) == two.argmax(-1)).sum())
        tokens += len(ids)
        target = torch.tensor(list(ids[1:]), dtype=torch.long).unsqueeze(-1)
        log_ratio += float((log_one[:-1].gather(-1, target) - log_two[:-1].gather(-1, target)).sum())
        predicted += len(ids) - 1
    ratio = float(torch.tensor(log_ratio / max(1, predicted)).exp())
    return Comparison(largest, kld / max(1, tokens), same / max(1, tokens), ratio, tokens)
