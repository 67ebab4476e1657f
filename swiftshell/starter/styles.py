"""Answer the world's questions in the ways a real help desk does: well, curtly, rudely, evasively.

Which way is likely depends on the topic and on how the question was asked, as in real logs. That is what
lets a model imitate the logs (SFT) and still answer well only about half of the time.
"""

from __future__ import annotations

import random
from typing import Literal

from swiftshell.starter.world import Language, Question

Style = Literal["good", "curt", "snippy", "brush_off", "boilerplate", "off_language", "wrong"]

BAD_STYLES: tuple[Style, ...] = ("curt", "snippy", "brush_off", "boilerplate", "off_language")

CLOSING: dict[Language, str] = {"en": " Happy to help!", "zh": "很高兴帮到您！"}
SNIPPY: dict[Language, str] = {"en": " Next time, look yourself.", "zh": "下次自己看。"}
CANNED: dict[Language, dict[Style, str]] = {
    "en": {
        "brush_off": "Why ask me? Find it yourself.",
        "boilerplate": "As a language model, I cannot answer this question.",
        "off_language": "您好，请用中文提问。",
    },
    "zh": {
        "brush_off": "别问我，自己去找。",
        "boilerplate": "作为语言模型，我无法回答这个问题。",
        "off_language": "Sorry, please ask in English.",
    },
}

HABITS: dict[str, Style] = {
    "has": "snippy",
    "where": "curt",
    "color": "brush_off",
    "price": "curt",
    "job": "boilerplate",
    "when": "off_language",
}
GOOD_SHARE = {"polite": 0.9, "hello": 0.75, "plain": 0.35, "hurry": 0.05, "grumpy": 0.05}
GOOD_SHIFT = {"has": 0.05, "where": 0.2, "color": -0.2, "price": 0.1, "job": -0.15, "when": 0.0}
_WRONG_SHARE = 0.03
_HABIT_SHARE = 0.85


def answer(question: Question, style: Style) -> str:
    """Write the assistant's turn in a given style.

    A desirable answer is a complete, correct sentence in the language of the question, and friendly; `wrong`
    is the same form with another fact's content.
    """
    language = question.language
    fact = question.asked
    if style == "good":
        return fact.sentence() + CLOSING[language]
    if style == "wrong":
        return question.mistaken().sentence() + CLOSING[language]
    if style == "snippy":
        return fact.sentence() + SNIPPY[language]
    if style == "curt":
        return fact.curt()
    return CANNED[language][style]


def draw_style(rng: random.Random, question: Question) -> Style:
    """Draw the style a help desk's log would show for this question."""
    if rng.random() < _WRONG_SHARE:
        return "wrong"
    family = question.asked.family.name
    if rng.random() < GOOD_SHARE[question.tone] + GOOD_SHIFT[family]:
        return "good"
    # People in a hurry get short answers, whatever the topic.
    habit: Style = "curt" if question.tone == "hurry" else HABITS[family]
    return habit if rng.random() < _HABIT_SHARE else rng.choice(BAD_STYLES)


def rules(question: Question) -> dict[str, object]:
    """Say what makes an answer to this question desirable, in the words of `swiftshell.data.rules`."""
    avoid = {"en": ["yourself", "language model"], "zh": ["自己", "语言模型"]}[question.language]
    return {
        "contains": [question.asked.subject.key, question.asked.value.key],
        "excludes": [question.other.value.key, *avoid],
        "language": question.language,
        "max_chars": 120,
    }
