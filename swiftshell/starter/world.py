"""Describe the starter's small world: facts, questions about them, and which combinations are held out.

A prompt states two or three facts of one family and asks for one of them; the answer is in the prompt.
What makes held-out prompts disjoint from everything the model is trained on is not a list but a rule: a
(subject, value) combination is held out or it is not, pretraining text and training rows use only those that
are not, and a held-out prompt always asks about one that is.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from swiftshell.starter import lexicon
from swiftshell.starter.lexicon import Word

Language = Literal["en", "zh"]
Tone = Literal["plain", "polite", "hello", "hurry", "grumpy"]

LANGUAGES: tuple[Language, ...] = ("en", "zh")
TONES: tuple[Tone, ...] = ("plain", "polite", "hello", "hurry", "grumpy")

PREFIXES: dict[Language, dict[Tone, str]] = {
    "en": {
        "plain": "",
        "polite": "Please tell me: ",
        "hello": "Hello! ",
        "hurry": "Quick: ",
        "grumpy": "Hey you! ",
    },
    "zh": {"plain": "", "polite": "请问：", "hello": "你好！", "hurry": "快点：", "grumpy": "喂！"},
}

_HELD_OUT_EVERY = 5
_HELD_OUT_REST = 2


@dataclass(frozen=True)
class Family:
    """Say one kind of fact in one language: its sentence, its question and its shortest answer."""

    name: str
    language: Language
    subjects: tuple[Word, ...]
    values: tuple[Word, ...]
    fact: str
    question: str
    curt: str

    def combinations(self, held_out: bool) -> list[tuple[int, int]]:
        """List (subject, value) indices of one side of the split."""
        return [
            (s, v)
            for s in range(len(self.subjects))
            for v in range(len(self.values))
            if is_held_out(s, v) is held_out
        ]


@dataclass(frozen=True)
class Fact:
    """State that a subject has a value."""

    family: Family
    subject: Word
    value: Word

    def sentence(self) -> str:
        return self.family.fact.format(s=self.subject.text, v=self.value.text)

    def question(self) -> str:
        return self.family.question.format(s=self.subject.text)

    def curt(self) -> str:
        short = self.family.curt.format(v=self.value.text)
        return short[0].upper() + short[1:]


@dataclass(frozen=True)
class Question:
    """Ask for one of several facts in some tone; `others` are the facts that are not asked for."""

    asked: Fact
    others: tuple[Fact, ...]
    order: tuple[int, ...]
    tone: Tone

    @property
    def language(self) -> Language:
        return self.asked.family.language

    def facts(self) -> list[Fact]:
        """List all facts in the order in which the prompt states them."""
        every = (self.asked, *self.others)
        return [every[i] for i in self.order]

    def prompt(self) -> str:
        """Write the user's turn."""
        space = " " if self.language == "en" else ""
        body = space.join([*(fact.sentence() for fact in self.facts()), self.asked.question()])
        return PREFIXES[self.language][self.tone] + body


def is_held_out(subject_index: int, value_index: int) -> bool:
    """Tell whether a combination is kept away from all training text (one in five is)."""
    return (subject_index + value_index) % _HELD_OUT_EVERY == _HELD_OUT_REST


def _family(
    name: str, language: Language, subjects: tuple[Word, ...], values: tuple[Word, ...], *forms: str
) -> Family:
    return Family(name, language, subjects, values, *forms)


FAMILIES: dict[Language, tuple[Family, ...]] = {
    "en": (
        _family(
            "has", "en", lexicon.NAMES_EN, lexicon.OBJECTS_EN, "{s} has {v}.", "What does {s} have?", "{v}."
        ),
        _family(
            "where",
            "en",
            lexicon.ANIMALS_EN,
            lexicon.PLACES_EN,
            "The {s} is in the {v}.",
            "Where is the {s}?",
            "in the {v}.",
        ),
        _family(
            "color",
            "en",
            lexicon.THINGS_EN,
            lexicon.COLORS_EN,
            "The {s} is {v}.",
            "What color is the {s}?",
            "{v}.",
        ),
        _family(
            "count",
            "en",
            lexicon.GOODS_EN,
            lexicon.NUMBERS_EN,
            "There are {v} {s}.",
            "How many {s} are there?",
            "{v}.",
        ),
        _family(
            "job", "en", lexicon.NAMES_EN, lexicon.JOBS_EN, "{s} is {v}.", "What is the job of {s}?", "{v}."
        ),
        _family(
            "when", "en", lexicon.EVENTS_EN, lexicon.TIMES_EN, "The {s} is {v}.", "When is the {s}?", "{v}."
        ),
    ),
    "zh": (
        _family("has", "zh", lexicon.NAMES_ZH, lexicon.OBJECTS_ZH, "{s}有{v}。", "{s}有什么？", "{v}。"),
        _family(
            "where", "zh", lexicon.ANIMALS_ZH, lexicon.PLACES_ZH, "{s}在{v}里。", "{s}在哪里？", "{v}里。"
        ),
        _family(
            "color", "zh", lexicon.THINGS_ZH, lexicon.COLORS_ZH, "{s}是{v}的。", "{s}是什么颜色？", "{v}。"
        ),
        _family(
            "count", "zh", lexicon.GOODS_ZH, lexicon.NUMBERS_ZH, "{s}有{v}个。", "{s}有几个？", "{v}个。"
        ),
        _family("job", "zh", lexicon.NAMES_ZH, lexicon.JOBS_ZH, "{s}是{v}。", "{s}做什么工作？", "{v}。"),
        _family("when", "zh", lexicon.EVENTS_ZH, lexicon.TIMES_ZH, "{s}在{v}。", "{s}在什么时候？", "{v}。"),
    ),
}


def draw_fact(rng: random.Random, family: Family, held_out: bool) -> Fact:
    """Draw a fact whose combination lies on the given side of the split."""
    subject, value = rng.choice(family.combinations(held_out))
    return Fact(family, family.subjects[subject], family.values[value])


def draw_question(
    rng: random.Random,
    language: Language,
    held_out: bool,
    family: Family | None = None,
    tone: Tone | None = None,
) -> Question:
    """Draw two or three facts with distinct subjects and values, and a question about the first drawn."""
    family = family or rng.choice(FAMILIES[language])
    facts = [draw_fact(rng, family, held_out)]
    wanted = 3 if rng.random() < 0.3 else 2
    while len(facts) < wanted:
        fact = draw_fact(rng, family, held_out=False)
        if all(fact.subject != f.subject and fact.value != f.value for f in facts):
            facts.append(fact)
    order = list(range(wanted))
    rng.shuffle(order)
    chosen: Tone = rng.choice(TONES) if tone is None else tone
    return Question(facts[0], tuple(facts[1:]), tuple(order), chosen)
