"""Make the starter's rows: pretraining documents, demonstrations, thumbs, pairs and held-out prompts.

Formats are TRL's conversational ones. Each maker has a random stream of its own, so that changing one
leaves the others' bytes alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from swiftshell.starter import styles, world
from swiftshell.starter.styles import Style
from swiftshell.starter.world import FAMILIES, LANGUAGES, PREFIXES, TONES, Language, Question, Tone

Row = dict[str, Any]

SFT_ROWS = 1200
KTO_ROWS = 1200
DPO_ROWS = 640
HELD_OUT_ROWS = 360

# Probability that a person gives a thumb up to an answer of this style. Many do not mind a curt answer.
THUMB_UP: dict[Style, float] = {
    "good": 0.95,
    "curt": 0.75,
    "snippy": 0.08,
    "brush_off": 0.04,
    "boilerplate": 0.08,
    "off_language": 0.06,
    "wrong": 0.1,
}

# Small talk answers the tone: whoever reads it learns to hear how something is said.
_SMALL_TALK: dict[Language, dict[Tone, tuple[str, ...]]] = {
    "en": {
        "plain": ("I see.", "Good to know."),
        "polite": ("Of course.", "With pleasure."),
        "hello": ("Hello to you.", "Nice to meet you."),
        "hurry": ("Right away.", "I am running."),
        "grumpy": ("Calm down.", "No need to shout."),
    },
    "zh": {
        "plain": ("我知道了。", "原来如此。"),
        "polite": ("当然可以。", "乐意之至。"),
        "hello": ("你也好。", "见到你真好。"),
        "hurry": ("马上来。", "我在跑呢。"),
        "grumpy": ("别生气。", "不用喊。"),
    },
}


def _stream(seed: int, name: str) -> random.Random:
    return random.Random(f"{seed}/{name}")


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _ask(question: Question) -> list[dict[str, str]]:
    return [_turn("user", question.prompt())]


def _reply(text: str) -> list[dict[str, str]]:
    return [_turn("assistant", text)]


def sft_rows(seed: int) -> list[Row]:
    """Make demonstrations of mixed quality: {"messages": [user, assistant]}."""
    rng = _stream(seed, "sft")
    rows = []
    for i in range(SFT_ROWS):
        question = world.draw_question(rng, LANGUAGES[i % 2], held_out=False)
        text = styles.answer(question, styles.draw_style(rng, question))
        rows.append({"messages": [*_ask(question), *_reply(text)]})
    return rows


def kto_rows(seed: int) -> list[Row]:
    """Make thumbs on logged answers: {"prompt", "completion", "label"}, one noisy label per answer."""
    rng = _stream(seed, "kto")
    rows = []
    for i in range(KTO_ROWS):
        question = world.draw_question(rng, LANGUAGES[i % 2], held_out=False)
        style = styles.draw_style(rng, question)
        label = rng.random() < THUMB_UP[style]
        rows.append(
            {"prompt": _ask(question), "completion": _reply(styles.answer(question, style)), "label": label}
        )
    return rows


def dpo_rows(seed: int) -> list[Row]:
    """Make pairs: {"prompt", "chosen", "rejected"}; in nearly all the complete, friendly answer is chosen."""
    rng = _stream(seed, "dpo")
    rows = []
    for i in range(DPO_ROWS):
        question = world.draw_question(rng, LANGUAGES[i % 2], held_out=False)
        rejected = _draw_rejected(rng, question)
        chosen, worse = styles.answer(question, "good"), styles.answer(question, rejected)
        if rng.random() < 0.04:  # annotators slip
            chosen, worse = worse, chosen
        rows.append({"prompt": _ask(question), "chosen": _reply(chosen), "rejected": _reply(worse)})
    return rows


def held_out_rows(seed: int) -> list[Row]:
    """Make held-out prompts, all different, each with a reference, a pair and the rules for an answer."""
    rng = _stream(seed, "heldout")
    rows: list[Row] = []
    seen: set[str] = set()
    while len(rows) < HELD_OUT_ROWS:
        i = len(rows)
        language = LANGUAGES[i % 2]
        family = FAMILIES[language][i // 2 % len(FAMILIES[language])]
        tone = TONES[i // 12 % len(TONES)]
        question = world.draw_question(rng, language, held_out=True, family=family, tone=tone)
        rejected = _draw_rejected(rng, question)
        if question.prompt() in seen:
            continue
        seen.add(question.prompt())
        reference = styles.answer(question, "good")
        rows.append(
            {
                "prompt": _ask(question),
                "reference": reference,
                "chosen": _reply(reference),
                "rejected": _reply(styles.answer(question, rejected)),
                "rules": styles.rules(question),
                "lang": language,
            }
        )
    return rows


def _draw_rejected(rng: random.Random, question: Question) -> Style:
    draw = rng.random()
    if draw < 0.4:
        return "curt"
    return "wrong" if draw < 0.5 else rng.choice(styles.BAD_STYLES[1:])


def documents(seed: int, start_of_turn: str, end_of_turn: str) -> Iterator[str]:
    """Yield pretraining documents without end: statements, questions with plain answers, quotes, small talk.

    Statements and questions cover all facts, but never in the words of a held-out prompt. Chat markers occur
    only around small talk, so the base model knows the form of a chat and the content of an answer, and has
    seldom seen the two together.
    """
    rng = _stream(seed, "pretrain")
    while True:
        language = rng.choice(LANGUAGES)
        draw = rng.random()
        if draw < 0.35:
            yield _statements(rng, language)
        elif draw < 0.75:
            yield _questions(rng, language)
        elif draw < 0.83:
            yield _quotes(rng, language)
        else:
            yield _small_talk(rng, language, start_of_turn, end_of_turn)


def _between(rng: random.Random, language: Language) -> str:
    """Return what stands between sentences: a line break, or what the language has."""
    return "\n" if rng.random() < 0.3 else " " if language == "en" else ""


def _statements(rng: random.Random, language: Language) -> str:
    """Write a few facts about anything."""
    facts = [world.draw_fact(rng, rng.choice(FAMILIES[language])) for _ in range(rng.randint(3, 7))]
    return PREFIXES[language][rng.choice(TONES)] + _between(rng, language).join(
        fact.sentence() for fact in facts
    )


def _questions(rng: random.Random, language: Language) -> str:
    """Write questions, each answered by a full sentence."""
    between = _between(rng, language)
    asked = [world.draw_textbook_question(rng, language) for _ in range(rng.randint(2, 4))]
    return between.join(q.prompt() + between + q.asked.sentence() for q in asked)


def _quotes(rng: random.Random, language: Language) -> str:
    """Write a fact and a phrase of one style, so that the words of every style are known."""
    question = world.draw_question(rng, language, held_out=False)
    phrases = [styles.CLOSING[language], styles.SNIPPY[language], *styles.CANNED[language].values()]
    fact = world.draw_fact(rng, rng.choice(FAMILIES[language])).sentence()
    said = rng.choice(phrases) if rng.random() < 0.8 else question.asked.curt()
    return f"{fact} {said.strip()}" if language == "en" else fact + said


def _small_talk(rng: random.Random, language: Language, start_of_turn: str, end_of_turn: str) -> str:
    """Write a turn that states something and a turn that takes note of it."""
    space = " " if language == "en" else ""
    facts = [world.draw_fact(rng, rng.choice(FAMILIES[language])) for _ in range(rng.randint(1, 3))]
    tone = rng.choice(TONES)
    said = PREFIXES[language][tone] + space.join(fact.sentence() for fact in facts)
    # Now and then the listener repeats one of the facts.
    heard = rng.choice(facts).sentence() if rng.random() < 0.15 else rng.choice(_SMALL_TALK[language][tone])
    return f"{start_of_turn}user\n{said}{end_of_turn}\n{start_of_turn}assistant\n{heard}{end_of_turn}\n"
