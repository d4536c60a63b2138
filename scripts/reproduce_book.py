"""The book's four training runs under its recipe and ours, beside the figures of its notes.

    python scripts/reproduce_book.py -o docs/results/book.json                  # all, on a GPU
    python scripts/reproduce_book.py --cell vgg11@96 -o docs/results/book.json  # without one

Each cell is a run of its own below ``artifacts/book``. Run the command again after an
interruption: finished cells are kept unless their recipe has changed since, an unfinished one goes
on from its last checkpoint. The table is written after every cell; cells of other options stay.
``modern`` trains the same network as ``book``; ``modern-bn`` adds batch norm and is only run when
asked for with ``--recipe``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import cast

from vgg_deploy import environment, jsonio
from vgg_deploy.cli.console import watching
from vgg_deploy.data.fashion_mnist import DATASETS, load_dataset
from vgg_deploy.environment import Environment
from vgg_deploy.errors import UsageError, VggDeployError
from vgg_deploy.pipeline.claim import held
from vgg_deploy.pipeline.told import Told
from vgg_deploy.spec import ModelSpec
from vgg_deploy.train.loop import train
from vgg_deploy.train.options import RunControl, TrainOptions
from vgg_deploy.train.outcome import TrainResult
from vgg_deploy.train.recipes import RECIPES, Recipe, RecipeName
from vgg_deploy.train.setup import card_for

WIDTH, EPOCHS = 0.25, 10


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run as the notes report it: of the last epoch, with the speed over the whole run."""

    loss: float
    train_accuracy: float
    test_accuracy: float
    examples_per_second: float


# The notes this project grew from, on a GPU that they do not name.
NOTES: Mapping[str, Figures] = {
    name: Figures(
        loss=loss, train_accuracy=train_accuracy, test_accuracy=test, examples_per_second=speed
    )
    for name, loss, train_accuracy, test, speed in (
        ("vgg11@224", 0.174, 0.935, 0.918, 783.2),
        ("vgg11@96", 0.212, 0.920, 0.911, 799.1),
        ("vgg16@224", 0.182, 0.933, 0.917, 400.5),
        ("vgg19@224", 0.229, 0.914, 0.908, 358.6),
    )
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of ours beside the notes'."""

    cell: str
    recipe: str
    ours: Figures
    best_test_accuracy: float  # of the epoch that the validation images choose, if there are any
    notes: Figures  # always by the book's recipe
    dataset: str
    train_images: int
    minutes: float
    made_by: Mapping[str, str]
    environment: Environment | None = None


@dataclass(frozen=True, kw_only=True)
class BookTable:
    """The result file."""

    what: str
    made_at: str
    width: float
    epochs: int
    cells: tuple[Cell, ...]
    environment: Environment | None = None  # where the cells had none of their own


def run_cell(name: str, recipe: str, options: argparse.Namespace) -> Cell:
    """Train one cell, or go on with it."""
    arch, size = name.split("@")
    if recipe == "modern-bn":
        arch += "_bn"
    data = load_dataset(options.data)
    spec = ModelSpec.named(arch, width=options.width, size=int(size), channels=1, classes=10)
    asked = TrainOptions(
        recipe=recipe,
        epochs=options.epochs,
        seed=options.seed,
        device=options.device,
        max_images=options.max_images,
        validation=options.validation,
        ema=options.ema,
    )
    folder = options.folder / folder_name(name, recipe, options)
    control = RunControl(resume="may", save_every=5, max_minutes=options.max_minutes)
    with watching() as watch:
        watch.say(f"{name} {recipe}")
        trained = data.trained(asked.max_images, asked.validation)
        card = card_for(spec, asked.chosen, data, trained)
        with held(folder, "--folder"):
            result = train(card, data, asked, folder, Told(watch), control)
    return _cell(name, recipe, result, options)


def folder_name(name: str, recipe: str, options: argparse.Namespace) -> str:
    """Of a run; what was asked for besides is in it, so that no run clears another one's."""
    usual = vars(parse([]))
    asked = ("data", "epochs", "width", "seed", "device", "validation", "ema", "max_images")
    others = [f"{k}-{getattr(options, k)}" for k in asked if getattr(options, k) != usual[k]]
    return "-".join([name.replace("@", "-"), recipe, *others])


def _cell(name: str, recipe: str, result: TrainResult, options: argparse.Namespace) -> Cell:
    last, images = result.rows[-1], int(result.made_by["train_images"])
    return Cell(
        cell=name,
        recipe=recipe,
        ours=Figures(
            loss=last.loss,
            train_accuracy=last.train_accuracy,
            test_accuracy=last.test_accuracy,
            examples_per_second=median(row.examples_per_second for row in result.rows),
        ),
        best_test_accuracy=result.best.test_accuracy,
        notes=NOTES[name],
        dataset=options.data,
        train_images=images,
        minutes=sum(row.seconds for row in result.rows) / 60,
        made_by=result.made_by,
        environment=environment.capture(),
    )


def table(cells: Sequence[Cell], options: argparse.Namespace) -> BookTable:
    """All finished cells, in the order of the notes."""
    order = [*NOTES]

    def place(cell: Cell) -> tuple[int, str, str]:
        return order.index(cell.cell), cell.recipe, cell.made_by["seed"]

    return BookTable(
        what="the book's training runs, ours beside those of its notes",
        made_at=environment.now(),
        width=options.width,
        epochs=options.epochs,
        cells=tuple(sorted(cells, key=place)),
    )


def found(options: argparse.Namespace) -> list[Cell]:
    """All cells of the file, also those of calls with other options.

    ``UsageError`` for a file of another width or number of epochs.
    """
    if not options.output.exists():
        return []
    table = jsonio.load(BookTable, options.output)
    if (table.width, table.epochs) != (options.width, options.epochs):
        raise UsageError(
            f"{options.output} holds runs of width {table.width:g} and {table.epochs} epochs",
            "choose another file with -o",
        )
    return [replace(c, environment=c.environment or table.environment) for c in table.cells]


def add(cell: Cell, options: argparse.Namespace) -> list[Cell]:
    """Put a cell into the file beside what others have written there meanwhile; all cells now."""
    others = [
        c
        for c in found(options)
        if (c.cell, c.recipe) != (cell.cell, cell.recipe) or not is_of(c, options)
    ]
    cells = [*others, cell]
    jsonio.save(options.output, table(cells, options))
    return cells


def is_of(cell: Cell, options: argparse.Namespace) -> bool:
    """Whether a cell was made by a call with the same options."""
    made_by, share, ema = cell.made_by, options.validation, options.ema
    return (
        cell.dataset == options.data
        and options.device in ("auto", made_by.get("device"))
        and made_by.get("seed") == str(options.seed)
        and made_by.get("max_images") == (str(options.max_images) if options.max_images else None)
        and made_by.get("validation") == (str(share) if share else None)
        and made_by.get("ema") == (str(ema) if ema else None)
    )


def has_recipe(cell: Cell) -> bool:
    """Whether a cell was made by its recipe as it is now; what it does not tell was the default."""
    told, usual = cell.made_by, {f.name: f.default for f in fields(Recipe)}
    return all(
        told.get(f"recipe_{name}", told.get(name, str(usual[name]))) == str(value)
        for name, value in asdict(RECIPES[cast(RecipeName, cell.recipe)]).items()
        if name != "name"
    )


def _line(cell: Cell) -> str:
    ours, notes = cell.ours, cell.notes
    return (
        f"{cell.cell} {cell.recipe}: loss {ours.loss:.3f} ({notes.loss:.3f}), train "
        f"{ours.train_accuracy:.3f} ({notes.train_accuracy:.3f}), test {ours.test_accuracy:.4f} "
        f"({notes.test_accuracy:.3f}), {ours.examples_per_second:,.1f} "
        f"({notes.examples_per_second:,.1f}) examples/s"
    )


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cell", action="append", choices=[*NOTES], help="may be repeated")
    parser.add_argument("--recipe", action="append", choices=[*RECIPES], help="may be repeated")
    parser.add_argument("--data", choices=DATASETS, default="fashion-mnist")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--width", type=float, default=WIDTH)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--validation", type=float, default=0.0, help="share that is held out")
    parser.add_argument("--ema", type=float, default=0.0, help="decay of averaged weights")
    parser.add_argument("--max-images", type=int, help="for trying it out")
    parser.add_argument("--max-minutes", type=float, help="per cell; then run it again")
    parser.add_argument("--folder", type=Path, default=Path("artifacts/book"))
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results/book.json"))
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing, cell by cell; the exit code is that of the first error."""
    options = parse(words)
    try:
        cells = found(options)
        have = {(c.cell, c.recipe) for c in cells if is_of(c, options) and has_recipe(c)}
        for name in options.cell or NOTES:
            for recipe in options.recipe or ("book", "modern"):
                if (name, recipe) not in have:
                    cells = add(run_cell(name, recipe, options), options)
    except VggDeployError as error:
        print(f"error: {error.cause}\nremedy: {error.remedy}", file=sys.stderr)
        return error.exit_code
    for cell in table(cells, options).cells:
        if is_of(cell, options):
            print(_line(cell))
    return 0


if __name__ == "__main__":
    sys.exit(main())
