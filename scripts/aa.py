"""Do verdicts lie? Runs of one corpus are dealt out at random to studies in which nothing differs, and verdicts are counted.

Each study has arms of some seeds and a control, and is judged as `curate ablate` judges it. Five in a hundred may be false.

    make truth STUDY=aa_runs
    python scripts/aa.py out/truth/aa_runs/study.json
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from curate.study.verdict import alpha_left, control_seeds, difference, holm, plan_sees

ALPHA = 0.05
Draw = Callable[[int], np.ndarray]  # so many values of runs that differ in their seed alone


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="study.json of a study whose arms are the same")
    parser.add_argument("--studies", type=int, default=2000, help="dealt out, and simulated, of each shape")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = json.loads(given.study.read_text())
    values = np.array([v for metrics in found["values"].values() for v in metrics[found["primary"]].values()])
    seconds = sum(arm["seconds"] for arm in found["training"].values()) / len(values)
    rng = np.random.default_rng(given.seed)
    sigma = float(values.std(ddof=1))
    print(f"{len(values)} runs: {found['primary']} {values.mean():.4f}, standard deviation {sigma:.4f}")
    for name, draw in (
        ("dealt out", lambda n: rng.permutation(values)[:n]),
        ("simulated, normal", lambda n: rng.normal(values.mean(), sigma, n)),
    ):
        for shape, false in shapes(draw, given.studies, len(values)):
            print(f"{name:18} {shape:40} {told(false, given.studies)}")
    print_power(sigma, len(values) - 1, seconds)


def shapes(draw: Draw, studies: int, most: int) -> Iterator[tuple[str, int]]:
    """(what a study looks like, how many of `studies` gave a false verdict), as far as there are runs enough."""
    for arms, seeds in ((1, 2), (1, 3), (1, 5), (1, 10), (3, 2), (3, 5), (8, 2)):
        control = control_seeds(seeds, arms)
        if control + arms * seeds <= most:
            false = sum(is_false(draw(control + arms * seeds), arms, seeds, control) for _ in range(studies))
            yield f"{arms} arm{'s' * (arms > 1)} of {seeds} seeds, control of {control}", false
    if most >= 20:
        yield (
            "1 arm, looked at after each of 3-10 seeds",
            sum(is_false_by_looks(draw(20)) for _ in range(studies)),
        )


def is_false(values: np.ndarray, arms: int, seeds: int, control: int) -> bool:
    base = by_seed(values[:control])
    dealt = values[control:].reshape(arms, seeds)
    return any(rejected for rejected, _ in holm([difference(by_seed(arm), base).p() for arm in dealt], ALPHA))


def is_false_by_looks(values: np.ndarray, first: int = 3, last: int = 10) -> bool:
    looks: list[int] = []
    for seeds in range(first, last + 1):
        found = difference(by_seed(values[:seeds]), by_seed(values[last : last + seeds]))
        if found.p() < alpha_left(seeds, last, looks, ALPHA):
            return True
        looks.append(seeds)
    return False


def by_seed(values: np.ndarray) -> dict[int, float]:
    return dict(enumerate(map(float, values)))


def told(false: int, studies: int) -> str:
    """The share, and Wilson's 95% interval."""
    p, z = false / studies, 1.96
    middle = (p + z * z / (2 * studies)) / (1 + z * z / studies)
    half = z * (p * (1 - p) / studies + z * z / (4 * studies**2)) ** 0.5 / (1 + z * z / studies)
    return f"{p:6.2%} false  ({middle - half:.2%} to {middle + half:.2%})"


def print_power(sigma: float, df: int, seconds: float) -> None:
    """What an arm against a control sees in so many CPU minutes, four times in five, with these runs in the store."""
    for minutes in (30, 60, 120, 240):
        seeds = int(minutes * 60 / seconds / 2)
        if seeds < 2:
            print(f"{minutes:4} CPU minutes: {seconds:.0f} s a run leave less than 2 seeds an arm")
            continue
        alone, pooled = plan_sees(sigma, seeds, seeds, 1), plan_sees(sigma, seeds, seeds, 1, df)
        print(
            f"{minutes:4} CPU minutes, {seeds} seeds an arm: sees {alone:.4f} alone, {pooled:.4f} with the store's spread,"
            " four times in five"
        )


if __name__ == "__main__":
    main()
