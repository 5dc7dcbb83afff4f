"""`python -m training.sweep RECIPE --try NAME=VALUES ...`: which parameters suit these corrections?

Trials are drawn at random and learn side by side from one snapshot; those that are worse than others are
stopped early. MLflow shows the sweep as a run with its trials inside. Nothing is registered: the last
line is the command that retrains with what was best.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from training.priority import yield_to_others


def main() -> int:
    asked = _arguments()
    yield_to_others()  # before anything starts a thread or a process
    from redpencil.errors import RedpencilError
    from redpencil.settings import Settings
    from training import recipe
    from training.tuning import Size, sweep

    settings = Settings()
    try:
        same, chosen = recipe.given(asked.set), recipe.find(asked.recipe)
        model = recipe.model_of(chosen, settings, asked.model)
        found = sweep(chosen, model, asked.tries, same, settings, Size(asked.trials, asked.at_once))
    except RedpencilError as error:
        print(error, file=sys.stderr)
        return 1
    for one in found:
        print(f"{one.score:10.4f}  {one.epochs:4d} epochs  {_said(one.params)}")
    best = " ".join(f"--param {shlex.quote(f'{k}={v}')}" for k, v in {**same, **found[0].params}.items())
    print(f"redpencil retrain --model {model} --recipe {asked.recipe} {best}")
    return 0


def _said(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in params.items())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe")
    parser.add_argument("--model", help="registered model; default: by the family's task")
    parser.add_argument("--try", dest="tries", action="append", default=[], metavar="NAME=VALUES")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="for all trials")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=0, help="side by side; default: one a GPU or core")
    parser.epilog = (
        "VALUES: 8,16,32 is one of these, 1e-4..1e-2 lies between, 4..16 is a whole number between"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
