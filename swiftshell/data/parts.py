"""Name the parts that a column can play, and the columns that are taken for each."""

from __future__ import annotations

# For every part, the column names that are taken for it, the most telling first.
NAMES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns", "contents", "data"),
    "prompt": ("prompt", "instruction", "query", "question", "input", "problem", "inputs"),
    "completion": (
        "completion",
        "response",
        "output",
        "answer",
        "solution",
        "target",
        "targets",
        "assistant",
        "caption",
        "captions",
    ),
    "chosen": (
        "chosen",
        "chosen_response",
        "chosen_messages",
        "chosen_answer",
        "preferred_output",
        "accepted",
        "preferred",
        "better",
        "response_j",
    ),
    "rejected": (
        "rejected",
        "rejected_response",
        "rejected_messages",
        "rejected_answer",
        "non_preferred_output",
        "dispreferred",
        "worse",
        "response_k",
    ),
    "label": (
        "label",
        "kto_tag",
        "is_preferred",
        "tag",
        "is_desirable",
        "desirable",
        "preferred",
        "thumbs_up",
        "thumbs",
        "thumb",
        "feedback",
        "liked",
    ),
    "score": ("score", "rating", "stars", "reward"),
    "probability": ("probability", "p_desirable", "prob", "soft_label", "soft_labels", "desirable_probability"),
    "weight": ("weight", "sample_weight", "row_weight", "w"),
    "text": ("text", "story", "document"),
    "input": ("input",),
    "system": ("system", "system_prompt", "system_message"),
    "history": ("history",),
    "tools": ("tools", "functions"),
    "images": ("images", "image", "image_path", "image_paths", "img", "file_name"),
    "reference": ("reference", "reference_answer", "ground_truth", "gold"),
    "rules": ("rules",),
    "lang": ("lang", "language"),
    "id": ("id", "prompt_id", "uid"),
}
ROLES = tuple(name for name in NAMES if name != "score")
# What the recipes of other tools call a part.
ALIASES = {"label_field": "label", "text_field": "completion", "response_field": "completion", "prompt_field": "prompt",
           "weight_field": "weight", "probability_field": "probability"}
# The answer column that belongs to a prompt column comes before the general order.
PARTNERS = {
    "instruction": "output",
    "query": "response",
    "question": "answer",
    "prompt": "completion",
    "input": "output",
    "problem": "solution",
    "inputs": "targets",
    "user": "assistant",
    "human": "assistant",
}
FORMATS = (
    "messages",
    "sharegpt",
    "prompt_completion",
    "alpaca",
    "query_response",
    "question_answer",
    "preference",
    "captions",
    "text",
)
PROMPT_FORMATS = {
    "instruction": "alpaca",
    "input": "alpaca",
    "query": "query_response",
    "question": "question_answer",
}
PROMPT_OF_FORMAT = {
    "alpaca": "instruction",
    "query_response": "query",
    "question_answer": "question",
    "prompt_completion": "prompt",
}
# Beside a column of one picture a row, `text` is its caption.
ONE_PICTURE = ("file_name", "image", "image_path", "img")
# What makes a row what it is; a column that less than this share of the rows has does not play such a part.
CORE = ("messages", "prompt", "completion", "chosen", "rejected", "text")
FEW = 0.4
# What a row may have that most have not, and what would be lost if its column was overlooked.
MAY_COME_LATE = ("system", "history", "tools", "images", "input")
HELD_OUT_ONLY = ("reference", "rules", "lang")
