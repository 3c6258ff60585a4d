"""The command predict: the trained model on new image files. It is no stage of the pipeline.

    python -m commands.predict --images photos --out predictions.csv
    python -m commands.predict --images photos --out predictions.csv --sort-into sorted [--copy | --move]
    python -m commands.predict --undo sorted/undo.csv

The table has a row for every file: its cluster and what it is called (names.yaml), confidence and margin, whether that
is unsure, and the reason if it could not be read. Pictures are cut to the square in their middle, as for training.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from commands.predict import sorting
from commands.predict.classify import image_files, read_predictions, write_predictions
from commands.trained import MODEL, NAMES, load_classifier, name_clusters
from stages.plumbing.command import path
from stages.plumbing.errors import UserError
from stages.plumbing.printing import examples, printable

DONE = {"link": "linked", "copy": "copied", "move": "moved"}


def predict(
    images: Sequence[Path],
    out: Path,
    model: Path = MODEL,
    names: Path | None = None,
    threshold: float = 0.5,
    sort_into: Path | None = None,
    how: sorting.How = "link",
) -> None:
    """Classify image files and folders of them; write the table `out`, then sort the files into folders, if asked to.

    Files that cannot be read are rows of the table. UserError for everything that has to be mended first.
    """
    files, left_out = image_files(images, sort_into)
    if out.is_dir() or os.path.abspath(out) in map(os.path.abspath, files):
        raise UserError(f"--out {out}: {'a folder' if out.is_dir() else 'one of the images'}; name a new .csv file")
    if sort_into is not None and sort_into.exists() and not sort_into.is_dir():
        raise UserError(f"--sort-into {sort_into}: no folder; name one, or one that is yet to be made")
    classifier = load_classifier(model)
    called = name_clusters(names, model, classifier.config["clusters"])
    summary = write_predictions(out, files, classifier, called, threshold)
    summary.left_out = left_out
    print(printable(f"predict: {summary}; see {out}"))
    if sort_into is not None:
        placed = sorting.sort_files(read_predictions(out), called, sort_into, how)
        said = [f"{placed.placed:,} files {DONE[how]} into {sort_into}"]
        said += [f"{placed.there:,} were there already"] if placed.there else []
        said += [f"{placed.links:,} links stay where they are"] if placed.links else []
        way = f"; back with --undo {sort_into / sorting.UNDO}" if how == "move" and placed.placed else ""
        print(printable(f"predict: {', '.join(said)}{way}"))


def undo(log: Path) -> None:
    """Move files back that were moved. UserError if some could not be."""
    back, reasons = sorting.undo(log)
    print(f"predict: {back:,} files moved back")
    if reasons:
        raise UserError(f"{len(reasons):,} files stay where they are, and in {log}: {examples(reasons)}")


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The flags, checked as far as they go without looking at files."""
    described, _, commands = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m commands.predict",
        description=f"{described}\n\n{commands}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=path, nargs="+", metavar="PATH", help="image files, and folders of them")
    parser.add_argument("--out", type=path, help="the table to write, a .csv file")
    parser.add_argument("--model", type=path, help=f"the folder of the model (default: {MODEL})")
    parser.add_argument("--names", type=path, help=f"names of the clusters (default: {NAMES}, if there is one)")
    parser.add_argument("--threshold", type=_share, help="below this confidence an image is unsure (default: 0.5)")
    parser.add_argument("--sort-into", type=path, metavar="DIR", help="link the files into DIR, a folder per name")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--copy", dest="how", action="store_const", const="copy", help="copy instead of linking")
    how.add_argument("--move", dest="how", action="store_const", const="move", help="move; DIR/undo.csv leads back")
    parser.add_argument("--undo", type=path, metavar="DIR/undo.csv", help="move files back; with no other flag")
    arguments = parser.parse_args(words)
    given = {name for name, value in vars(arguments).items() if value is not None}
    if arguments.undo is not None:
        if given != {"undo"}:
            parser.error("--undo goes with no other flag")
    elif not {"images", "out"} <= given:
        parser.error("--images and --out are needed (or --undo alone)")
    elif arguments.how is not None and arguments.sort_into is None:
        parser.error(f"--{arguments.how} needs --sort-into DIR")
    return argparse.Namespace(**{name: vars(arguments)[name] for name in given})


def _share(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 to 1")


def main(words: Sequence[str] | None = None) -> None:
    """The command: a UserError, and what the disk refuses, is one line on stderr and exit code 1."""
    arguments = vars(parse(words))
    try:
        return undo(arguments["undo"]) if "undo" in arguments else predict(**arguments)
    except UserError as error:
        message = str(error)
    except OSError as error:
        if error.strerror is None:
            raise
        message = ": ".join(filter(None, [str(error.filename or ""), error.strerror]))
    except KeyboardInterrupt:
        message = "interrupted; " + ("run it again for the rest" if "undo" in arguments else "nothing was written")
    sys.exit(printable(f"predict: {message}"))


if __name__ == "__main__":
    main()
