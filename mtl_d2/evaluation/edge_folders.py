"""Scores of a folder of edge maps against a folder of ground truth, matched by name."""

from dataclasses import dataclass
from pathlib import Path

from .edge_files import READERS, GroundTruthForm, read_ground_truth, read_prediction
from .edge_options import EdgeOptions
from .edge_sets import Counts, EdgeSet, score_all, score_image


@dataclass(frozen=True)
class FilePair:
    """An edge map, and the file or folder of its ground truth."""

    prediction: Path
    ground_truth: Path


def pair_files(predictions: Path, ground_truths: Path) -> tuple[dict[str, FilePair], list[str]]:
    """Find the prediction of every ground truth: files of one stem; a folder of annotators' files has it as its name.

    Returns:
        ``{stem: pair}`` in the order of the stems, and the stems of predictions without a ground truth.

    Raises:
        ValueError: a folder is missing or empty, two of its files have one stem, or a prediction is missing.
    """
    found = _by_stem(predictions, "edge maps", with_folders=False)
    wanted = _by_stem(ground_truths, "ground truth", with_folders=True)
    missing = [stem for stem in wanted if stem not in found]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(
            f"{predictions}: found no edge map for {wanted[missing[0]]}{more}, expected {missing[0]} with one of "
            f"{', '.join(READERS)}: every ground truth needs its prediction."
        )
    pairs = {stem: FilePair(found[stem], path) for stem, path in wanted.items()}
    return pairs, [stem for stem in found if stem not in wanted]


def score_folders(
    pairs: dict[str, FilePair],
    form: GroundTruthForm | None = None,
    options: EdgeOptions | None = None,
    *,
    invert: bool = False,
    jobs: int | None = None,
) -> EdgeSet:
    """Score files as :func:`mtl_d2.evaluation.score_edges` scores arrays; they are read in the scoring processes.

    Args:
        pairs: from ``pair_files``.
        form: of the ground truth; None for edges.
        options: None for the benchmark's, with the half-tolerance and the crisp score beside them.
        invert: the predictions are dark at edges.
        jobs: scoring processes; None for one per core, 0 for this process.

    Raises:
        ValueError: a file cannot be read or scored; the message names it.
    """
    options, form = options or EdgeOptions(), form or GroundTruthForm()
    calls = ((stem, (pair, form, options, invert)) for stem, pair in pairs.items())
    return EdgeSet.of(score_all(calls, _score_pair, jobs, total=len(pairs)), options)


def _score_pair(pair: FilePair, form: GroundTruthForm, options: EdgeOptions, invert: bool) -> Counts:
    gts, ignore = read_ground_truth(pair.ground_truth, form)
    return score_image(read_prediction(pair.prediction, invert=invert), gts, ignore, options, str(pair.prediction))


def _by_stem(folder: Path, what: str, *, with_folders: bool) -> dict[str, Path]:
    """``{stem: path}``, sorted."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder, expected {what}.")
    result: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        is_folder = with_folders and path.is_dir() and any(p.suffix.lower() in READERS for p in path.iterdir())
        if not is_folder and (path.is_dir() or path.suffix.lower() not in READERS):
            continue
        stem = path.name if is_folder else path.stem
        if stem in result:
            raise ValueError(f"{path}: {result[stem].name} has the same name, expected one file for each image.")
        result[stem] = path
    if not result:
        raise ValueError(f"{folder}: found no {what}, expected files ending with {', '.join(READERS)}.")
    return dict(sorted(result.items()))
