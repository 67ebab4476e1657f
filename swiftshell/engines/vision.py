"""Vision-language models: the processor, the tokens an image becomes, rows as TRL's vision collators take them.

Images are resized by the processor's Pillow backend everywhere. It gives the same pixels on every machine and needs no
torchvision, whose builds on the package index need CUDA; transformers' own loading would ask for torchvision because a
Qwen-VL processor has a part for videos. That part is left out: `images_only` is the documented class without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftshell.data.images import open_picture
from swiftshell.errors import Problem, SwiftshellError, fail
from swiftshell.machine import architecture
from swiftshell.run.files import read_json_or_none

if TYPE_CHECKING:
    from swiftshell.engines.rows import Example, Prepared
    from swiftshell.stages.base import Context

_ANSWERS = ("completion", "chosen", "rejected")
_CHECKED_ROWS = 4  # whose tokens are compared with what the trainer's collator makes of them


def sees(folder: Path) -> bool:
    """Tell whether a model folder holds a model that takes images."""
    found = architecture.of_folder(folder)
    return found is not None and found.sees


@dataclass
class Eyes:
    """A model's processor, and what has been learned of it.

    Attributes:
        processor: transformers' processor: tokenizer and image processor.
        sizes: (width, height) in pixels → the tokens that stand for one image of that size.
        files: path → (width, height), so that an image which many rows show is looked at once.
    """

    processor: Any
    sizes: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    files: dict[str, tuple[int, int]] = field(default_factory=dict)

    def tokens_of(self, path: str) -> tuple[int, ...]:
        """Return the tokens that stand for an image; only the first image of a size is computed."""
        size = self.files[path] = self.files.get(path) or _shown_size(path)
        if size not in self.sizes:
            from PIL import Image

            text = self.processor.image_token
            made = self.processor(images=[[Image.new("RGB", size)]], text=[text], add_special_tokens=False)
            self.sizes[size] = tuple(int(i) for i in made["input_ids"][0])
        return self.sizes[size]

    def show(self, ids: Sequence[int], paths: Sequence[str]) -> dict[str, Any]:
        """Return what a model takes beside the token ids of one row (1, seq): its images, and which tokens they are."""
        made = dict(
            self.processor.image_processor(images=[open_picture(p) for p in paths], return_tensors="pt")
        )
        return {**made, **self._kinds(ids)}

    def _kinds(self, ids: Sequence[int]) -> dict[str, Any]:
        import torch

        names = set(self.processor.model_input_names) & {"mm_token_type_ids", "token_type_ids"}
        kinds = torch.tensor(self.processor.create_mm_token_type_ids([list(ids)])) if names else None
        return dict.fromkeys(names, kinds)


def load_eyes(folder: Path, tokenizer: Any) -> Eyes | None:
    """Return the processor of a model that takes images; None for a text model.

    Args:
        folder: the base model's folder: adapters do not change what an image becomes.
        tokenizer: the loaded tokenizer, which the processor shares.

    Raises:
        SwiftshellError: Pillow is missing, or there is no image processor that can be used.
    """
    if not sees(folder):
        return None
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise fail("images.pillow_missing") from error
    try:
        processor = images_only(_processor_class(folder)).from_pretrained(
            str(folder), backend="pil", trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        message = " ".join(str(error).split())[:300]
        raise fail("images.no_processor", file=str(folder), folder=str(folder), message=message) from error
    processor.tokenizer = tokenizer
    template = (
        tokenizer.chat_template or processor.chat_template
    )  # older repositories have it beside the processor only
    processor.chat_template = tokenizer.chat_template = template
    return Eyes(processor)


def _processor_class(folder: Path) -> Any:
    """Return the class that the folder names for its processor, else the one of its model type."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    named = (
        _json(folder / name).get("processor_class")
        for name in ("processor_config.json", "preprocessor_config.json")
    )
    found = architecture.of_folder(folder)
    usual = PROCESSOR_MAPPING_NAMES.get(found.model_type if found else "")
    return getattr(transformers, str(next(filter(None, named), None) or usual))


def _json(path: Path) -> Mapping[str, Any]:
    found = read_json_or_none(path)
    return found if isinstance(found, Mapping) else {}


def images_only(processor_class: Any) -> Any:
    """Return a processor class without the part for videos."""

    class ImagesOnly(processor_class):
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name != "video_processor"]

    ImagesOnly.__name__ = ImagesOnly.__qualname__ = processor_class.__name__
    return ImagesOnly


def _shown_size(path: str) -> tuple[int, int]:
    from swiftshell.data.images import look

    size = look(path)
    assert size is not None  # Pillow is there: `load_eyes` made sure
    return size


# --- rows ---


def parted(example: Example) -> Example:
    """Return a row with its turns' content as parts, the form that every vision-language model's template takes."""
    changed = {
        key: [_as_parts(turn) for turn in value]
        for key, value in example.data.items()
        if key in ("messages", "prompt", *_ANSWERS) and isinstance(value, list)
    }
    return replace(example, data={**example.data, **changed})


def _as_parts(turn: Mapping[str, Any]) -> dict[str, Any]:
    content = turn.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}] if content else []
    return {**turn, "content": content}


def with_tokens(example: Example, eyes: Eyes) -> Example:
    """Return a row of prompt and answers with the tokens that TRL's vision collators make of it."""
    from trl import apply_chat_template

    data = example.data
    texts = apply_chat_template(
        {k: v for k, v in data.items() if k in ("prompt", *_ANSWERS, "chat_template_kwargs")}, eyes.processor
    )
    tokenizer = eyes.processor.tokenizer
    prompt = tokenizer(text=texts["prompt"], add_special_tokens=False)["input_ids"]
    answers = [
        tokenizer(text=texts[k], add_special_tokens=False)["input_ids"] for k in _ANSWERS if k in texts
    ]
    whole = _expanded(prompt, data.get("images") or [], texts["prompt"], eyes)
    return replace(example, prompt_ids=tuple(whole), answers=tuple(tuple(a) for a in answers))


def _expanded(ids: Sequence[int], paths: Sequence[str], text: str, eyes: Eyes) -> list[int]:
    """Return a prompt's tokens with every image's placeholder replaced by the tokens that stand for the image."""
    mark = eyes.processor.tokenizer.convert_tokens_to_ids(eyes.processor.image_token)
    if not paths:
        return list(ids)
    if sum(i == mark for i in ids) != len(
        paths
    ):  # a family that marks images in another way: ask its processor
        made = eyes.processor(
            images=[[open_picture(p) for p in paths]], text=[text], add_special_tokens=False
        )
        return [int(i) for i in made["input_ids"][0]]
    images = iter(paths)
    out: list[int] = []
    for i in ids:
        out += eyes.tokens_of(next(images)) if i == mark else [i]
    return out


class OpenImages:
    """A transform for datasets.Dataset: give out whole rows by their number, images opened when they are needed."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = [dict(r) for r in rows]

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        picked = [self.rows[i] for i in batch["row"]]
        out = {key: [r[key] for r in picked] for key in self.rows[0]}
        out["images"] = [[_opened(path) for path in r.get("images") or []] for r in picked]
        return out


def _opened(path: str) -> Any:
    try:
        return open_picture(path)
    except OSError as error:
        raise fail("images.gone", path=path, reason=error.strerror or str(error), exit_code=3) from error


def data_set(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a datasets.Dataset whose images stay on disk until a batch needs them."""
    from datasets import Dataset

    return Dataset.from_dict({"row": list(range(len(rows)))}).with_transform(OpenImages(rows))


def is_lazy(data_set: Any) -> bool:
    """Tell whether a trainer's data set is one of `data_set`: rows become tokens when a batch is made."""
    return data_set.column_names == ["row"]


def check_agreement(examples: Sequence[Example], collator: Any) -> None:
    """Hold the tokens that the trainer's collator makes of the first rows to those that were counted.

    Raises:
        SwiftshellError: they differ; training on something unchecked is refused.
    """
    some = examples[:_CHECKED_ROWS]
    rows = data_set([e.data for e in some])
    for number, example in enumerate(some):
        batch = collator([rows[number]])
        found = [
            [int(i) for i, seen in zip(ids, mask, strict=True) if seen]
            for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]
        if found != [[*example.prompt_ids, *answer] for answer in example.answers]:
            raise fail(
                "train.tokens_disagree", exit_code=3, file=example.file, line=example.line, row=example.number
            )


def refuse_impossible(params: Any, data: Prepared) -> None:
    """Refuse to join rows with images to one sequence, which TRL cannot, before any weights load.

    Raises:
        SwiftshellError: each such parameter.
    """
    problems = [
        Problem("images.packing", {"name": name}, field_name=name)
        for name in ("packing", "padding_free")
        if getattr(params, name, False)
    ]
    if problems and data.pictures:
        raise SwiftshellError(problems)


# --- what is trained ---


def tell(eyes: Eyes | None, params: Any, ctx: Context) -> None:
    """Note which part of a model that takes images learns."""
    if eyes is not None:
        ctx.note("images.language_only" if params.tuning == "lora" else "images.whole_model")


def language_targets(model: Any, names: str | Sequence[str]) -> str:
    """Return a regular expression for the linear layers of the language model: `all-linear`, or those of these names.

    Neither the part that sees nor the head is among them.
    """
    import re

    import torch

    decoder = model.get_decoder()
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    if isinstance(names, str):
        linear = (name for name, module in decoder.named_modules() if isinstance(module, torch.nn.Linear))
        names = sorted({name.rpartition(".")[2] for name in linear})
    return rf"{re.escape(prefix)}\..*\.({'|'.join(re.escape(n) for n in names)})"


# --- images of the probe ---


def fingerprints(paths: Sequence[str]) -> list[dict[str, str]]:
    """Return paths with the digests of their content, as an artifact keeps them."""
    return [{"path": p, "sha256": sha256(Path(p).read_bytes()).hexdigest()} for p in paths]


def unchanged(images: Sequence[Mapping[str, str]]) -> bool:
    """Tell whether recorded images are still what they were."""
    try:
        return all(sha256(Path(i["path"]).read_bytes()).hexdigest() == i["sha256"] for i in images)
    except OSError:
        return False
