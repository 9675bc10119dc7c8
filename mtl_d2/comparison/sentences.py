"""What the table of a comparison shows, and what it does not, in sentences; from its record alone."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..engine.results_figures import decimals_of
from .rules import DEVIATIONS, TRAINED_PERCENT

Record = Mapping[str, Any]
SEVERAL_COMMITS = "The runs are of several commits: the code may differ between them."


def sentences(record: Record) -> list[str]:
    """In the order in which they should be read."""
    return [
        *_incomplete(record),
        *_references(record),
        *_best(record),
        *_lengths(record),
        *_sizes(record),
        *_balancers(record),
        *_search(record),
        _intervals(record),
        *_uncounted(record),
        *([record["note"]] if record["note"] else []),
    ]


def _incomplete(record: Record) -> Iterator[str]:
    if record["failed"]:
        yield f"Failed: {', '.join(record['failed'])}."
    if record["missing"]:
        yield f"Left out, since a run is missing: {', '.join(record['missing'])}."
    if len(record["commits"]) > 1:
        yield SEVERAL_COMMITS


def _references(record: Record) -> Iterator[str]:
    for task, reference in record["references"].items():
        name, moved = reference["network"], reference["moved_percent"]
        if reference["trained"] is None:
            yield f"Whether {name} is trained is not known: its longer runs are missing."
            continue
        moves = f"a third more steps move its score by {'an undefined share' if moved is None else f'{moved:.1f} %'}"
        if len(reference["longer"]) < len(record["seeds"]):
            moves += f" in seed {', '.join(map(str, record['seeds'][: len(reference['longer'])]))}"
        if reference["trained"]:
            yield f"{name} is trained: {moves} (less than {TRAINED_PERCENT:g} %)."
        else:
            yield (
                f"{name} is NOT trained: {moves} ({TRAINED_PERCENT:g} % or more), so that a gain in {task} may be that "
                "of faster training, not of sharing."
            )
    yield from _answered_twice(record)


def _answered_twice(record: Record) -> Iterator[str]:
    """Tasks that the reference of another depends on, and so answers too."""
    names = {task: reference["network"] for task, reference in record["references"].items()}
    for metric in record["metrics"]:
        own = names.get(metric["task"])
        for name in names.values():
            if own and name != own and metric["task"] in record["networks"][name]["val"]:
                theirs, alone = (_score(record["networks"][n]["val"][metric["task"]], metric) for n in (name, own))
                yield (
                    f"{name} answers {metric['task']} too, with {theirs} where {own} has {alone}: the sum of the "
                    f"references holds both, and a gain over {own} may be due to what {name} learns alone."
                )


def _score(values: Sequence[float | None], metric: Record) -> str:
    defined = [value for value in values if value is not None]
    if len(defined) < len(values):
        return "an undefined score"
    return f"{statistics.fmean(defined):.{decimals_of(metric['name'].partition('/')[0])}f}"


def _best(record: Record) -> Iterator[str]:
    joint = {n: x for n, x in record["networks"].items() if x["role"] != "reference" and x["delta_m"] is not None}
    fewer = [name for name, network in joint.items() if len(network["val"]) < len(record["metrics"])]
    if fewer:
        yield f"Of fewer tasks, so that their delta_m is beside no other's: {', '.join(fewer)}."
    joint = {name: network for name, network in joint.items() if name not in fewer}
    if not joint:
        yield "No joint network of all tasks has a delta_m, so that nothing is said of multi-task learning."
        return
    name = max(joint, key=lambda n: joint[n]["delta_m"])
    network = joint[name]
    below = [f"{task} ({change:+.1f} %)" for task, change in network["change"].items() if change < 0]
    yield (
        f"Of {len(joint)} joint networks {name} has the highest delta_m, {network['delta_m']:+.1f} %; "
        + (f"below its reference: {', '.join(below)}." if below else "no task is below its reference.")
    )
    interval = network["interval"].get("delta_m")
    if interval is None:
        yield (
            "It has no interval: of a task there are no statistics per image, they are of other images than the "
            "reference's, or a figure is undefined in a draw."
        )
    elif interval["low"] <= 0 <= interval["high"]:
        yield "Its interval holds 0: these images and seeds do not tell it from the single networks."
    if len(joint) > 1:
        yield "The highest is chosen on the images that it is scored on, and so is a little too high."


def _lengths(record: Record) -> Iterator[str]:
    alone = {network["images"] for network in record["networks"].values() if network["role"] == "reference"}
    for name, network in record["networks"].items():
        if len(alone) == 1 and network["images"] not in alone:
            times = network["images"] / next(iter(alone))
            yield f"{name} is trained on {times:.2f} times as many images as each reference."


def _sizes(record: Record) -> Iterator[str]:
    total = record["sum"]
    shares = [
        100 * network["cost"]["parameters"] / total["parameters"]
        for network in record["networks"].values()
        if network["role"] != "reference" and network["cost"] and total.get("parameters")
    ]
    if shares:
        least, most = (f"{share:.0f}" for share in (min(shares), max(shares)))
        yield f"The joint networks have {least if least == most else f'{least} to {most}'} % of the summed parameters."


def _balancers(record: Record) -> Iterator[str]:
    for name, network in record["networks"].items():
        verdict = network.get("grid")
        if verdict is None:
            if network["is_balancer"]:
                yield f"{name} is not held against the fixed weights: a delta_m is missing, or is of other tasks."
            continue
        against = f"{verdict['margin']:+.2f} points from the best fixed weights ({verdict['best']})"
        if verdict["better"] is None:
            yield f"{name}: {against}; nothing is claimed: {verdict['why']}."
        elif verdict["better"]:
            yield (
                f"{name} is better than tuned fixed weights of as many training images: {against}, "
                f"{_deviations(verdict)}."
            )
        else:
            yield f"{name} is not shown to be better than tuned fixed weights: {against}, {_deviations(verdict)}."


def _deviations(verdict: Record) -> str:
    return f"where {DEVIATIONS:g} standard deviations of the grid are {DEVIATIONS * verdict['deviation']:.2f}"


def _search(record: Record) -> Iterator[str]:
    search = record["search"]
    if search is None:
        yield (
            "Nothing was searched: learning rates and weights are as they were given, which may suit the one better "
            "than the other."
        )
        return
    counts = {len(network["trials"]) for network in record["networks"].values()}
    least, most = min(counts, default=0), max(counts, default=0)
    alike = f"{least} values for each network, the references alike"
    unlike = f"{least} to {most} values for a network, so that not all had the same search"
    yield (
        f"Searched on {search['held_out']} of {search['folds']} folds of the training images"
        f"{_search_steps(search)}: {', '.join(search['values'])}; "
        f"{alike if least == most else unlike}. "
        "The images of val were in no run of the search."
    )
    yield from _chosen(record)


def _chosen(record: Record) -> Iterator[str]:
    """What the search chose, and of which networks it says little."""
    by_values: dict[str, list[str]] = {}
    undefined = []
    for name, network in record["networks"].items():
        if len(network["trials"]) > 1:
            values = ", ".join(f"{key} {value}" for key, value in network["chosen"].items())
            by_values.setdefault(values, []).append(name)
            undefined += [name] if any(trial["score"] is None for trial in network["trials"]) else []
    if by_values:
        yield "Chosen: " + "; ".join(f"{values} for {', '.join(names)}" for values, names in by_values.items()) + "."
    for key, tried in record["search"]["values"].items():
        chosen = [network["chosen"].get(key) for network in record["networks"].values() if len(network["trials"]) > 1]
        numbers = [value for value in tried if isinstance(value, int | float)]
        for end in (min, max) if chosen and len(numbers) == len(tried) > 1 else ():
            if all(value == end(numbers) for value in chosen):
                yield f"All have {key} {chosen[0]}, which lies at the end of what was tried: one beyond may be better."
    if undefined:
        yield (
            f"Of {', '.join(undefined)} a run of the search failed or has no score, so that the choice is among the "
            "others, the first where there are none."
        )


def _search_steps(search: Record) -> str:
    steps = search["overrides"].get("SOLVER.MAX_ITER")
    return f", in runs of {steps} steps" if steps else ""


def _intervals(record: Record) -> str:
    drawn = record["bootstrap"]
    over = f"{drawn['draws']} draws of {drawn['images']} images"
    if drawn["seeds"] == 1:
        return (
            f"Intervals of 95 % hold {over} alone: with one seed, how far another would move a figure is not in them."
        )
    return (
        f"Intervals of 95 % hold {over} and {drawn['seeds']} seeds, the same for all networks; of so few seeds they "
        "are rather too narrow."
    )


def _uncounted(record: Record) -> Iterator[str]:
    names = {name for n in record["networks"].values() if n["cost"] for name in n["cost"]["uncounted"]}
    if names:
        yield (
            "FLOPs are fvcore's multiply-adds of one image's inference; it counts no elementwise operation, and none "
            f"of {', '.join(sorted(names))}."
        )
    if any(n["peak_memory_mib"] for n in record["networks"].values()) and "cpu" in record["device"]:
        yield "Training MiB is the largest resident memory of one process of a run, libraries and scoring included."
    yield "Training s is wall time, of which other runs beside it take a share: it ranks no networks."
    if any(n["cost"] for n in record["networks"].values()) and "cpu" in record["device"]:
        yield "Inference ms is CPU time, that of all threads together, in rounds where each network has its turn."
