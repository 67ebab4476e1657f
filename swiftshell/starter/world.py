"""Describe the starter's small town: what is true in it, how one asks about it, and what is held out.

Every subject of a family has one value, for good: the duck is in the museum, and Mia has a kite. The base
model reads all of it as running text. What makes held-out prompts disjoint from everything the model is
trained on is not a list but a rule: a fact is held out or it is not. No demonstration, thumb or pair is about
a held-out fact, and the form in which held-out prompts ask for one occurs in no training text at all. A model
that answers them has put together what it knows and how one answers.
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

_HELD_OUT_EVERY = 3
_HELD_OUT_REST = 2
HELD_OUT_FORM = 1  # of a family's two questions, the one that held-out prompts use
_STRIDE = 7  # steps through a family's values; coprime to every list's length, so all values are used


@dataclass(frozen=True)
class Family:
    """Say one kind of fact in one language: its sentence, its question and its shortest answer."""

    name: str
    language: Language
    number: int
    subjects: tuple[Word, ...]
    values: tuple[Word, ...]
    fact: str
    questions: tuple[str, str]
    curt: str

    def facts(self, held_out: bool | None = None) -> list[Fact]:
        """List the facts of one side of the split, or of both."""
        every = range(len(self.subjects))
        return [self.at(i) for i in every if held_out is None or is_held_out(self.number, i) is held_out]

    def at(self, index: int) -> Fact:
        """Return the fact about one subject."""
        value = (index * _STRIDE + self.number) % len(self.values)
        return Fact(self, self.subjects[index], self.values[value])


@dataclass(frozen=True)
class Fact:
    """State that a subject has a value."""

    family: Family
    subject: Word
    value: Word

    def sentence(self) -> str:
        return self.family.fact.format(s=self.subject.text, v=self.value.text)

    def question(self, form: int) -> str:
        return self.family.questions[form].format(s=self.subject.text)

    def curt(self) -> str:
        short = self.family.curt.format(v=self.value.text)
        return short[0].upper() + short[1:]


@dataclass(frozen=True)
class Question:
    """Ask for a fact in some tone and one of two forms; `other` has another value in the same family."""

    asked: Fact
    other: Fact
    tone: Tone
    form: int

    @property
    def language(self) -> Language:
        return self.asked.family.language

    def mistaken(self) -> Fact:
        """Return the asked subject with the other fact's value, which is not true."""
        return Fact(self.asked.family, self.asked.subject, self.other.value)

    def prompt(self) -> str:
        """Write the user's turn."""
        return PREFIXES[self.language][self.tone] + self.asked.question(self.form)


def is_held_out(family_number: int, subject_index: int) -> bool:
    """Tell whether a fact is kept for the evaluation (one in three is)."""
    return (family_number + subject_index) % _HELD_OUT_EVERY == _HELD_OUT_REST


_Row = tuple[str, tuple[Word, ...], tuple[Word, ...], str, tuple[str, str], str]


def _families(language: Language, *rows: _Row) -> tuple[Family, ...]:
    return tuple(Family(row[0], language, number, *row[1:]) for number, row in enumerate(rows))


FAMILIES: dict[Language, tuple[Family, ...]] = {
    "en": _families(
        "en",
        (
            "has",
            lexicon.NAMES_EN,
            lexicon.OBJECTS_EN,
            "{s} has {v}.",
            ("What does {s} have?", "Which thing does {s} own?"),
            "{v}.",
        ),
        (
            "where",
            lexicon.ANIMALS_EN,
            lexicon.PLACES_EN,
            "The {s} is in the {v}.",
            ("Where is the {s}?", "Where can I find the {s}?"),
            "in the {v}.",
        ),
        (
            "color",
            lexicon.THINGS_EN,
            lexicon.COLORS_EN,
            "The {s} is {v}.",
            ("What color is the {s}?", "Which color does the {s} have?"),
            "{v}.",
        ),
        (
            "price",
            lexicon.GOODS_EN,
            lexicon.NUMBERS_EN,
            "The {s} cost {v} coins.",
            ("How much do the {s} cost?", "What is the price of the {s}?"),
            "{v} coins.",
        ),
        (
            "job",
            lexicon.NAMES_EN,
            lexicon.JOBS_EN,
            "{s} is {v}.",
            ("What is the job of {s}?", "What does {s} do for a living?"),
            "{v}.",
        ),
        (
            "when",
            lexicon.EVENTS_EN,
            lexicon.TIMES_EN,
            "The {s} is {v}.",
            ("When is the {s}?", "When does the {s} take place?"),
            "{v}.",
        ),
    ),
    "zh": _families(
        "zh",
        (
            "has",
            lexicon.NAMES_ZH,
            lexicon.OBJECTS_ZH,
            "{s}有{v}。",
            ("{s}有什么？", "{s}有哪样东西？"),
            "{v}。",
        ),
        (
            "where",
            lexicon.ANIMALS_ZH,
            lexicon.PLACES_ZH,
            "{s}在{v}里。",
            ("{s}在哪里？", "在哪儿能找到{s}？"),
            "{v}里。",
        ),
        (
            "color",
            lexicon.THINGS_ZH,
            lexicon.COLORS_ZH,
            "{s}是{v}的。",
            ("{s}是什么颜色？", "{s}是哪种颜色的？"),
            "{v}。",
        ),
        (
            "price",
            lexicon.GOODS_ZH,
            lexicon.NUMBERS_ZH,
            "{s}卖{v}元。",
            ("{s}卖多少钱？", "{s}的价钱是多少？"),
            "{v}元。",
        ),
        (
            "job",
            lexicon.NAMES_ZH,
            lexicon.JOBS_ZH,
            "{s}是{v}。",
            ("{s}做什么工作？", "{s}的职业是什么？"),
            "{v}。",
        ),
        (
            "when",
            lexicon.EVENTS_ZH,
            lexicon.TIMES_ZH,
            "{s}在{v}。",
            ("{s}在什么时候？", "{s}什么时候举行？"),
            "{v}。",
        ),
    ),
}


def draw_fact(rng: random.Random, family: Family, held_out: bool | None = None) -> Fact:
    """Draw a fact from the given side of the split, or from both."""
    return rng.choice(family.facts(held_out))


def draw_question(
    rng: random.Random,
    language: Language,
    held_out: bool,
    family: Family | None = None,
    tone: Tone | None = None,
) -> Question:
    """Draw a fact from one side of the split and a way to ask for it."""
    family = family or rng.choice(FAMILIES[language])
    asked = draw_fact(rng, family, held_out)
    form = HELD_OUT_FORM if held_out else rng.randrange(2)
    chosen: Tone = rng.choice(TONES) if tone is None else tone
    return _question(rng, asked, chosen, form)


def draw_textbook_question(rng: random.Random, language: Language) -> Question:
    """Draw any fact and a way to ask for it that no held-out prompt uses."""
    asked = draw_fact(rng, rng.choice(FAMILIES[language]))
    held_out = asked in asked.family.facts(held_out=True)
    form = 1 - HELD_OUT_FORM if held_out else rng.randrange(2)
    return _question(rng, asked, rng.choice(TONES), form)


def _question(rng: random.Random, asked: Fact, tone: Tone, form: int) -> Question:
    other = rng.choice([fact for fact in asked.family.facts() if fact.value != asked.value])
    return Question(asked, other, tone, form)
