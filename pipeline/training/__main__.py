"""Trains one of the demo's two models, measures it as users meet it, and writes its folder."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from training.clip import ClipSettings, train_clip
from training.fitting import recent
from training.folder import finish, prepare
from training.lm import LmSettings, train_lm
from training.measure import measure_clip, measure_lm

_FRESH_SEEDS = (1001, 1002, 1003, 1004, 1005)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a model and return the exit code: 0 if done, 1 if the folder is not empty."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        prepare(options.out, options.overwrite)
    except FileExistsError as error:
        print(error, file=sys.stderr)
        return 1
    settings = {"seed": options.seed, "steps": options.steps}
    changes = {name: value for name, value in settings.items() if value is not None}
    run = _clip if options.model == "clip" else _lm
    finish(options.out, options.model, run(options.out, changes))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("model", choices=("clip", "lm"))
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that is not empty")
    parser.add_argument("--seed", type=int, help="random seed (default: that of the shipped models)")
    parser.add_argument("--steps", type=int, help="training steps (default: as for the shipped models)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser


def _clip(folder: Path, changes: dict[str, int]) -> dict[str, Any]:
    settings = replace(ClipSettings(), **changes)
    start = time.perf_counter()
    trained = train_clip(settings)
    seconds = time.perf_counter() - start
    trained.save(folder)
    measured = measure_clip(folder, _FRESH_SEEDS, per_species=20)
    return {**_facts(settings, trained, seconds), "measured": measured}


def _lm(folder: Path, changes: dict[str, int]) -> dict[str, Any]:
    settings = replace(LmSettings(), **changes)
    start = time.perf_counter()
    trained = train_lm(settings)
    seconds = time.perf_counter() - start
    trained.save(folder)
    measured = measure_lm(folder, unknown=20, seed=1001)
    return {**_facts(settings, trained, seconds), "measured": measured}


def _facts(settings: Any, trained: Any, seconds: float) -> dict[str, Any]:
    """Return the facts about a training run that are known before its model is measured."""
    return {
        "settings": asdict(settings),
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "final_loss": round(recent(trained.losses), 4),
    }


if __name__ == "__main__":
    sys.exit(main())
