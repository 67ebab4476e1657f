"""Write the one-step recipe that `swiftshell run <stage>` stands for, its inputs chosen from the board.

Every choice is returned with its reason (a catalogue key and values), and every one can be overridden by an option.
The result is an ordinary recipe, so what ran can be read, copied and run again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftshell.data import sources
from swiftshell.errors import fail
from swiftshell.plan import rounds
from swiftshell.plan.board import TRAINED_STAGES, Board, Entry

Why = tuple[str, dict[str, Any]]
STARTER = "starter"
ROUNDS = "rounds"  # replay: what the earlier rounds were trained on
_REPLAY_RATIO = 1.0  # rows of earlier rounds for each new one, where replay is asked for without a number
STARTER_FOLDER = Path(__file__).resolve().parent.parent / "starter"


@dataclass
class Options:
    """What a person may say about one step; everything left out is chosen from the board.

    `model`, `policy` and `reference` take `starter`, a folder, a hub repository (`org/name`) or a board name (also
    the id a run printed). `data` and `eval_data` take a file, a folder, `hf://org/name` or `starter`; `replay` the
    same, or `rounds` for what the earlier rounds were trained on.
    """

    model: str | None = None
    policy: str | None = None
    reference: str | None = None
    dataset: str | None = None
    data: str | None = None
    eval_data: str | None = None
    lineage: str | None = None
    continue_: bool = False
    replay: str | None = None
    output_dir: str | None = None
    seed: int = 42
    columns: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)


@dataclass
class Quick:
    """A recipe as plain data, the reasons for its inputs by section entry (`models.policy`), and its lineage."""

    recipe: dict[str, Any]
    whys: dict[str, Why] = field(default_factory=dict)
    lineage: str = ""


class _Builder:
    """Collect the sections of the recipe while inputs are chosen."""

    def __init__(self, stage: str, board: Board, options: Options) -> None:
        self.stage, self.board, self.options = stage, board, options
        self.models: dict[str, Any] = {}
        self.data: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}
        self.whys: dict[str, Why] = {}
        self.params: dict[str, Any] = {}  # settings that follow from what was chosen
        lineages = board.lineages()
        self.lineage = options.lineage or (lineages[0] if lineages else "")
        if options.lineage and options.lineage not in lineages and options.model is None:
            raise fail("plan.lineage_unknown", lineage=options.lineage, lineages=", ".join(lineages) or "-")

    def entry(self, slot: str, entry: Entry, why: str, **values: Any) -> Entry:
        """Use a board entry as an input."""
        self.models[slot] = {"path": str(entry.path)}
        self.inputs[slot] = f"models.{slot}"
        facts = {"name": entry.record.get("name", ""), "run": entry.run, "lineage": entry.lineage}
        self.whys[f"models.{slot}"] = (why, {**facts, **values})
        self.lineage = entry.lineage or self.lineage
        return entry

    def named(self, slot: str, text: str) -> None:
        """Use a model a person named: board name, `starter`, folder or hub repository."""
        self.models[slot], lineage = self._spec(text)
        if slot != "reference":  # settings and data go with what is trained, and the starter's suit only the starter
            self.lineage = lineage
        self.inputs[slot] = f"models.{slot}"
        self.whys[f"models.{slot}"] = ("plan.why_named", {"name": text})

    def _spec(self, text: str) -> tuple[dict[str, Any], str]:
        """Return the recipe entry of a named model and its lineage; one from elsewhere starts its own."""
        if text == STARTER:
            return {"starter": True}, STARTER
        entry = self.board.by_id(text)
        if entry is not None:
            return {"path": str(entry.path)}, entry.lineage or self.lineage
        spec = model_spec(text)
        made_here = (e for e in self.board.entries if "path" in spec and e.path == Path(spec["path"]).resolve())
        return spec, self.options.lineage or next((e.lineage for e in made_here), "")

    def dataset(self, slot: str, given: str | None, starter: str, *, required: bool = True) -> None:
        """Use the data a person named, or the starter's on the starter's lineage."""
        name = {"train_data": "train"}.get(slot, slot)
        if given and given != STARTER:
            columns = {"columns": self.options.columns} if self.options.columns else {}
            self.data[name] = {**data_spec(given), **columns}
            self.whys[f"data.{name}"] = ("plan.why_named", {"name": given})
        elif given == STARTER or self.lineage == STARTER:
            self.data[name] = {"starter": starter}
            self.whys[f"data.{name}"] = ("plan.why_starter_data", {"name": starter})
        elif required:
            flag = {"eval_data": "--data", "prompts": "--in"}.get(slot, "--data")
            raise fail("plan.data_missing", stage=self.stage, lineage=self.lineage or "-", flag=flag)
        else:
            return
        self.inputs[slot] = f"data.{name}"


def build(stage: str, board: Board, options: Options) -> Quick:
    """Choose the inputs of one step and return it as a recipe.

    Raises:
        SwiftshellError: there is nothing to start from (the command to run first is named), or an option names
            something that does not exist.
    """
    if options.replay and stage != "kto":
        raise fail("rounds.replay_only_kto", stage=stage)
    builder = _Builder(stage, board, options)
    _CHOOSE.get(stage, _choose_nothing)(builder)
    params = {**_starter_params(stage, builder.lineage), **builder.params, **options.params}
    step: dict[str, Any] = {"id": stage, "stage": stage, "inputs": builder.inputs, "params": params}
    if options.output_dir:
        step["output_dir"] = str(Path(options.output_dir).expanduser().absolute())
    recipe = {"schema": 1, "name": stage, "seed": options.seed, "models": builder.models, "data": builder.data,
              "steps": [step]}
    return Quick({k: v for k, v in recipe.items() if v != {}}, builder.whys, builder.lineage)


def _choose_nothing(b: _Builder) -> None:
    """Leave a stage without model inputs as it is (echo, third-party stages take their inputs from a recipe)."""


def _download(b: _Builder) -> None:
    if b.options.dataset:
        b.data["dataset"] = data_spec(b.options.dataset)
        b.inputs["dataset"] = "data.dataset"
        b.whys["data.dataset"] = ("plan.why_named", {"name": b.options.dataset})
        return
    b.named("model", b.options.model or STARTER)
    if not b.options.model:
        b.whys["models.model"] = ("plan.why_default_starter", {})


def _sft(b: _Builder) -> None:
    given = b.options.policy or b.options.model
    if given:
        b.named("policy", given)
    else:
        base = b.board.newest("download", b.lineage, ("model",))
        if base is None:
            raise fail("plan.nothing_downloaded", stage="sft")
        b.entry("policy", base, "plan.why_newest_download")
    b.dataset("train_data", b.options.data, "sft")
    b.dataset("eval_data", b.options.eval_data, "heldout", required=False) if b.options.eval_data else None


def _preference(b: _Builder) -> None:
    """Choose policy and reference of KTO and DPO: the reference is the SFT model and stays it."""
    sft = b.board.newest("sft", b.lineage)
    given = b.options.policy or b.options.model
    if given:
        b.named("policy", given)
    elif b.options.continue_:
        _continue(b)
    elif b.stage == "dpo" and (kto := _descendant(b.board, "kto", sft, b.lineage)) is not None:
        b.entry("policy", kto, "plan.why_dpo_after_kto")
    elif sft is not None:
        b.entry("policy", sft, "plan.why_newest_sft")
    else:
        first = "swiftshell run sft" if b.board.newest("download", b.lineage, ("model",)) else "swiftshell run download"
        raise fail("plan.no_sft", stage=b.stage, first=first)
    _reference(b)
    b.dataset("train_data", b.options.data, b.stage)
    if b.options.eval_data:
        b.dataset("eval_data", b.options.eval_data, "heldout")
    elif b.options.continue_ and not given:
        _same_held_out(b)
    _replay(b)


def _audit(b: _Builder) -> None:
    """Question labels with the model that KTO would start from; without one only the rows themselves speak."""
    given = b.options.policy or b.options.model
    sft = b.board.newest("sft", b.lineage)
    if given:
        b.named("policy", given)
    elif sft is not None:
        b.entry("policy", sft, "plan.why_newest_sft")
    b.dataset("train_data", b.options.data, "kto")
    suited = _starter_params("kto", b.lineage) if b.inputs.get("policy") else {}
    b.params.update({name: value for name, value in suited.items() if name != "num_train_epochs"})


def _score(b: _Builder) -> None:
    """Score answers with the newest model; the implicit reward needs a policy that has left its reference."""
    given = b.options.policy or b.options.model
    by_reward = "implicit_reward" in b.options.params.get("scorers", ()) or bool(b.options.reference)
    if given:
        b.named("policy", given)
    elif by_reward:
        trained = next((e for e in b.board.entries if e.stage in ("kto", "dpo") and e.lineage == b.lineage), None)
        if trained is None:
            raise fail("score.no_policy")
        b.entry("policy", trained, "plan.why_newest_model", stage=trained.stage)
    else:
        model = newest_model(b.board, b.lineage)
        if model is None:
            raise fail("plan.nothing_downloaded", stage="score")
        b.entry("policy", model, "plan.why_newest_model", stage=model.stage)
    if by_reward:
        _reference(b)
    b.dataset("rows", b.options.data, "kto")


def _continue(b: _Builder) -> None:
    last = _last_round(b)
    if last is None:
        raise fail("plan.nothing_to_continue", stage=b.stage)
    b.entry("policy", last, "plan.why_continue", stage=b.stage)


def _last_round(b: _Builder) -> Entry | None:
    return b.board.newest(b.stage, b.lineage)


def _same_held_out(b: _Builder) -> None:
    """Measure a round on the held-out rows of the round before, so that both can be compared."""
    last = _last_round(b)
    spec = rounds.data_of(last, "eval_data") if last else None
    if last is not None and spec is not None:
        b.data["eval_data"], b.inputs["eval_data"] = spec, "data.eval_data"
        b.whys["data.eval_data"] = ("rounds.why_held_out", {"name": _short(spec), "number": rounds.number_of(last)})
    elif b.lineage == STARTER:
        b.dataset("eval_data", None, "heldout")


def _replay(b: _Builder) -> None:
    """Add rows of earlier rounds: a file a person named, or what those rounds were trained on."""
    given = b.options.replay
    if not given:
        return
    found: list[tuple[dict[str, Any], Why]]
    if given != ROUNDS:
        spec: dict[str, Any] = {"starter": b.stage} if given == STARTER else data_spec(given)
        if b.options.columns and "path" in spec:
            spec["columns"] = b.options.columns
        found = [(spec, ("plan.why_named", {"name": given}))]
    else:
        found = _rounds_data(b)
    for number, (spec, why) in enumerate(found, 1):
        name = "replay" if number == 1 else f"replay_{number}"
        b.data[name], b.whys[f"data.{name}"] = spec, why
        b.inputs.setdefault("replay_data", []).append(f"data.{name}")
    b.params.setdefault("replay_ratio", _REPLAY_RATIO)


def _rounds_data(b: _Builder) -> list[tuple[dict[str, Any], Why]]:
    policy = b.models["policy"].get("path")
    start = next((e for e in b.board.entries if str(e.path) == policy and e.stage == b.stage), None)
    if start is None:
        raise fail("rounds.nothing_to_replay", stage=b.stage)
    found = rounds.train_data(rounds.chain(b.board, start))
    if not found:
        raise fail("rounds.data_gone", stage=b.stage, name=start.id)
    return [(spec, ("rounds.why_replay", {"name": _short(spec), "number": rounds.number_of(e)})) for e, spec in found]


def _short(spec: Mapping[str, Any]) -> str:
    return f"{STARTER} {spec['starter']}" if "starter" in spec else str(spec["path"])


def _reference(b: _Builder) -> None:
    if b.options.reference:
        b.named("reference", b.options.reference)
        _share(b)
        return
    policy = b.models["policy"]
    chosen = next((e for e in b.board.entries if str(e.path) == policy.get("path")), None)
    recorded = (chosen.record.get("reference") or {}) if chosen else {}
    if recorded.get("path"):
        b.models["reference"] = {"path": recorded["path"]}
        why: Why = ("plan.why_same_reference", {"name": recorded.get("id", recorded["path"])})
    else:
        b.models["reference"] = dict(policy)
        key = "plan.why_reference_sft" if chosen and chosen.stage == "sft" else "plan.why_reference_start"
        why = (key, {"name": chosen.id if chosen else policy.get("path") or policy.get("repo") or STARTER})
    b.inputs["reference"] = "models.reference"
    b.whys["models.reference"] = why
    _share(b)


def _share(b: _Builder) -> None:
    """Let policy and reference be one entry where both are the same model still to be fetched: fetched once, one model."""
    if "path" not in b.models["policy"] and b.models["reference"] == b.models["policy"]:
        del b.models["reference"], b.whys["models.reference"]
        b.inputs["reference"] = b.inputs["policy"]


def _descendant(board: Board, stage: str, sft: Entry | None, lineage: str) -> Entry | None:
    """Return the newest output of a stage whose reference is this SFT model (an older SFT's KTO is not continued)."""
    return next((e for e in board.of(stage, lineage) if sft is None or e.reference_id == sft.id), None)


def _merge(b: _Builder) -> None:
    given = b.options.model or b.options.policy
    if given:
        b.named("adapter", given)
        return
    adapters = [e for e in b.board.entries if e.stage in TRAINED_STAGES and e.kind == "adapter"
                and (not b.lineage or e.lineage == b.lineage)]
    if not adapters:
        raise fail("plan.no_adapter", first="swiftshell run sft")
    b.entry("adapter", adapters[0], "plan.why_newest_adapter", stage=adapters[0].stage)


def _quantize(b: _Builder) -> None:
    if b.options.model:
        b.named("model", b.options.model)
        return
    merged = next((e for e in b.board.entries if e.kind == "model" and e.stage in ("merge", *TRAINED_STAGES)
                   and (not b.lineage or e.lineage == b.lineage)), None)
    if merged is None:
        raise fail("plan.nothing_merged", first="swiftshell run merge")
    b.entry("model", merged, "plan.why_newest_merged")


def newest_model(board: Board, lineage: str) -> Entry | None:
    """Return the model a person means by "the model": the newest trained or merged one, else what was downloaded."""
    stages = (*TRAINED_STAGES, "merge")
    made = [e for e in board.entries if e.stage in stages and (not lineage or e.lineage == lineage)]
    return made[0] if made else board.newest("download", lineage, ("model",))


def _infer(b: _Builder) -> None:
    if b.options.model:
        b.named("model", b.options.model)
    else:
        model = newest_model(b.board, b.lineage)
        if model is None:
            raise fail("plan.nothing_downloaded", stage=b.stage)
        b.entry("model", model, "plan.why_newest_model", stage=model.stage)
    if b.stage == "infer":
        b.dataset("prompts", b.options.data, "heldout")


def _evaluate(b: _Builder) -> None:
    if b.options.model:
        b.named("model", b.options.model)
        b.inputs = {"models": ["models.model"]}
    else:
        chain = chain_of(b.board, b.lineage)
        if not chain:
            raise fail("plan.nothing_downloaded", stage="evaluate")
        for entry in chain:
            slot = {"download": "base"}.get(entry.stage, entry.stage)
            b.entry(slot, entry, "plan.why_lineage", stage=entry.stage)
        b.inputs = {"models": [f"models.{name}" for name in b.models]}
    b.dataset("eval_data", b.options.eval_data or b.options.data, "heldout")


def chain_of(board: Board, lineage: str) -> list[Entry]:
    """Return one model a stage along a lineage, in pipeline order: each the newest of its stage."""
    order = ("download", *TRAINED_STAGES, "merge", "quantize")
    kinds = ("model", "adapter", "quantized_model")
    return [e for stage in order if (e := board.newest(stage, lineage, kinds)) is not None]


_CHOOSE: Mapping[str, Callable[[_Builder], None]] = {
    "download": _download, "sft": _sft, "kto": _preference, "dpo": _preference, "merge": _merge, "infer": _infer,
    "serve": _infer, "quantize": _quantize, "evaluate": _evaluate, "audit": _audit, "score": _score,
}


def model_spec(text: str) -> dict[str, Any]:
    """Return the recipe entry for a model a person named: `starter`, a folder, or a hub repository.

    Raises:
        SwiftshellError: it looks like a path that is not there, or like nothing known.
    """
    path = Path(text).expanduser()
    if text == STARTER:
        return {"starter": True}
    if path.exists():
        return {"path": str(path.absolute())}
    repo = text.removeprefix("hf://").removeprefix("ms://")
    looks_like_repo = repo.count("/") == 1 and not text.startswith((".", "/", "~")) and " " not in repo
    if not looks_like_repo:
        raise fail("plan.model_not_found", name=text, cwd=os.getcwd())
    return {"repo": repo, "source": "ms"} if text.startswith("ms://") else {"repo": repo}


def data_spec(text: str) -> dict[str, Any]:
    """Return the recipe entry for data a person named: a file, a folder, a pattern, `hf://` or `ms://org/name[/file]`.

    Raises:
        SwiftshellError: the path does not exist, or the address is none.
    """
    if text.startswith(("hf://", "ms://")):
        return _hub_spec(text)
    path = Path(text).expanduser()
    if sources.is_pattern(path) and sources.exists(path) and not path.exists():
        return {"path": str(path.absolute())}
    if not path.exists():
        near = _nearest_file(path)
        raise fail("plan.data_not_found" if near else "plan.data_not_found_far", name=text, nearest=near, cwd=os.getcwd())
    if not path.is_file() and not path.is_dir():  # a pipe would be empty, or wait for ever, at the second look
        raise fail("plan.data_not_file", name=text)
    return {"path": str(path.absolute())}


def _hub_spec(address: str) -> dict[str, Any]:
    scheme, _, rest = address.partition("://")
    parts = rest.removeprefix("datasets/").strip("/").split("/")
    if len(parts) < 2 or not all(parts):
        raise fail("detect.address_form", address=address)
    spec = {"repo": "/".join(parts[:2])} | ({"source": "ms"} if scheme == "ms" else {})
    return {**spec, "file": "/".join(parts[2:])} if len(parts) > 2 else spec


def _nearest_file(path: Path) -> str:
    from difflib import get_close_matches

    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return ""
    near = get_close_matches(path.name, [n for n in names if n != path.name], n=1)  # a dangling link has its own name
    return str(path.parent / near[0]) if near else ""


def _starter_params(stage: str, lineage: str) -> dict[str, Any]:
    """Return the settings that suit the starter's tiny model; a model of another size gets the stage's defaults."""
    if lineage != STARTER:
        return {}
    try:
        settings = json.loads((STARTER_FOLDER / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise fail("plan.starter_broken", folder=str(STARTER_FOLDER), why=str(error)) from error
    if stage in ("infer", "evaluate"):
        return {k: v for k, v in settings.get("generation", {}).items() if k == "max_new_tokens"}
    found: dict[str, Any] = settings.get(stage, {})
    return found
