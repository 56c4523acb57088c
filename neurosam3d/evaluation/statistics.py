"""How sure a mean is, and whether two methods differ: bootstrap intervals and paired tests.

Objects of one scan share its contrast, its noise and often its failures, so they are no independent
samples. What is drawn again, and what a test counts, is therefore the scan, not the object.

Shapes: n values (one per object), k columns (for example numbers of clicks), S scans.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wilcoxon

Interval = tuple[float, float]

LEVEL = 0.95
NUM_RESAMPLES = 2000
MIN_DIFFERENT = 6  # of 5 differences the two-sided p-value is at least 2 / 2**5 = 0.0625
_CHUNK = 2_000_000  # drawn scans held in memory at a time
_NO_DIFFERENCE = 1e-12  # differences of one scan that cancel leave a rounding error


@dataclass(frozen=True)
class Spread:
    """How the means of several repeats lie.

    Args:
        repeats: How many there are.
        std: Standard deviation of their means, with `repeats - 1` in the denominator.
        lowest: The lowest mean.
        highest: The highest.
    """

    repeats: int
    std: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class PairedDifference:
    """How a method differs from a reference on the same objects.

    Args:
        pairs: Objects with a finite score of both.
        scans: Scans they belong to.
        mean: Mean of method minus reference over the objects; None without any.
        interval: 95% bootstrap interval of the mean, scans drawn again; None below 2 scans.
        wins: Objects on which the method is better.
        ties: Objects on which both have the very same score.
        losses: Objects on which the method is worse.
        p_value: Two-sided p-value of Wilcoxon's signed-rank test; None if there is none.
        remark: Why there is none, else empty.
    """

    pairs: int
    scans: int
    mean: float | None
    interval: Interval | None
    wins: int
    ties: int
    losses: int
    p_value: float | None
    remark: str = ""


def bootstrap_intervals(
    values: np.ndarray, scans: np.ndarray, *, seed: int = 0
) -> list[Interval | None]:
    """Return the 95% percentile bootstrap interval of the mean of every column.

    A resample draws as many scans as there are, with replacement and each with all its objects
    (a cluster bootstrap; Davison and Hinkley 1997, section 3.8). The same resamples serve all
    columns, and they depend on the seed and the number of scans only.

    Args:
        values: (n, k) finite scores, NaN where there is none.
        scans: (n,) which scan an object belongs to.
        seed: Seed of the draws.

    Returns:
        (low, high) per column; None where fewer than 2 scans have a value.
    """
    known = np.isfinite(values)
    names, index = np.unique(scans, return_inverse=True)
    sums, counts = (np.zeros((len(names), values.shape[1])) for _ in range(2))  # (S, k)
    np.add.at(sums, index, np.where(known, values, 0.0))
    np.add.at(counts, index, known)
    intervals: list[Interval | None] = [None] * values.shape[1]
    enough = np.flatnonzero((counts > 0).sum(0) >= 2)
    if len(enough):
        means = _resampled_means(sums[:, enough], counts[:, enough], seed=seed)
        # A resample without any value of a column has no mean; numpy's way around that is slow.
        quantile = np.nanquantile if np.isnan(means).any() else np.quantile
        low, high = quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)
        for place, column in enumerate(enough):
            intervals[column] = float(low[place]), float(high[place])
    return intervals


def _resampled_means(sums: np.ndarray, counts: np.ndarray, *, seed: int) -> np.ndarray:
    """Draw scans again and again, and average what they hold; NaN where a draw holds nothing."""
    generator, num_scans = np.random.default_rng(seed), len(sums)
    chunk = max(1, _CHUNK // num_scans)
    means = []
    for start in range(0, NUM_RESAMPLES, chunk):
        rows = min(chunk, NUM_RESAMPLES - start)
        drawn = generator.integers(num_scans, size=(rows, num_scans))
        drawn += np.arange(rows)[:, None] * num_scans
        times = np.bincount(drawn.ravel(), minlength=rows * num_scans).reshape(rows, num_scans)
        with np.errstate(invalid="ignore"):
            means.append((times @ sums) / (times @ counts))
    return np.concatenate(means)


def spread_over_repeats(values: np.ndarray, repeats: np.ndarray) -> Spread | None:
    """Compare the means of several repeats.

    Args:
        values: (n,) finite scores, NaN where there is none.
        repeats: (n,) which repeat a score belongs to.

    Returns:
        The spread; None where fewer than 2 repeats have a value.
    """
    known = np.isfinite(values)
    means = [values[known & (repeats == name)].mean() for name in np.unique(repeats[known])]
    if len(means) < 2:
        return None
    return Spread(len(means), float(np.std(means, ddof=1)), float(min(means)), float(max(means)))


def paired_difference(
    values: np.ndarray,
    reference: np.ndarray,
    scans: np.ndarray,
    *,
    lower_is_better: bool = False,
    seed: int = 0,
) -> PairedDifference:
    """Compare a method with a reference, object by object.

    Means and the test are of the pairs with two finite scores. Wins and losses count the others
    too: an infinite distance loses against a finite one. The test is Wilcoxon's signed-rank test
    on each scan's mean difference. Scans without a difference are left out, as Wilcoxon did;
    equal absolute differences share their mean rank, and then, or with more than 50 scans, the
    p-value is that of the normal approximation, else it is exact.

    Args:
        values: (n,) the method's scores, NaN where there is none.
        reference: (n,) the reference's scores of the same objects.
        scans: (n,) which scan an object belongs to.
        lower_is_better: Whether the score is a distance.
        seed: Seed of the interval.
    """
    both = ~np.isnan(values) & ~np.isnan(reference)
    sign = -1 if lower_is_better else 1
    score, other = sign * values[both], sign * reference[both]
    wins, losses = int((score > other).sum()), int((score < other).sum())
    finite = np.isfinite(values) & np.isfinite(reference)
    differences, places = values[finite] - reference[finite], scans[finite]
    (interval,) = bootstrap_intervals(differences[:, None], places, seed=seed)
    p_value, remark = _signed_rank(_means_of_scans(differences, places))
    return PairedDifference(
        pairs=len(differences),
        scans=len(np.unique(places)),
        mean=float(differences.mean()) if len(differences) else None,
        interval=interval,
        wins=wins,
        ties=int(both.sum()) - wins - losses,
        losses=losses,
        p_value=p_value,
        remark=remark,
    )


def _means_of_scans(values: np.ndarray, scans: np.ndarray) -> np.ndarray:
    """Average the values (n,) of each scan: (S,)."""
    _, index, counts = np.unique(scans, return_inverse=True, return_counts=True)
    return np.bincount(index, weights=values, minlength=len(counts)) / counts


def _signed_rank(differences: np.ndarray) -> tuple[float | None, str]:
    """Return the p-value of Wilcoxon's signed-rank test, or why there is none."""
    different = differences[np.abs(differences) > _NO_DIFFERENCE]
    if not len(different):
        return None, "no scan differs"
    if len(different) < MIN_DIFFERENT:
        scans = "1 scan differs" if len(different) == 1 else f"{len(different)} scans differ"
        return None, f"{scans}, and below {MIN_DIFFERENT} no p-value can fall under 0.05"
    return float(wilcoxon(different).pvalue), ""


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct the p-values of several tests by Holm's step-down rule (Scand J Stat 6:65, 1979).

    Args:
        p_values: One per test; None for a test that was not made, which does not count.

    Returns:
        The corrected values, at most 1, in the same order.
    """
    made = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(made):
        largest = max(largest, min(1.0, (len(made) - rank) * p))
        corrected[place] = largest
    return corrected
