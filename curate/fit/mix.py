"""Shares of a mixture from finished continual-pretraining runs: the CMR law and the D-CPT law.

Paper   CMR: Gu et al. 2024, arXiv:2407.17467; D-CPT: Que et al. 2024, arXiv:2406.01375
CMR     a share r of domain tokens is feasible where, within the token budget, the domain loss falls while the general
        loss rises by at most `max_increase`; the critical mixture ratio is the largest feasible share, and follows
        R(T) = a T^s + b, with T in units of 0.2 billion tokens
D-CPT   L(N, D, r) = E + A / N^alpha + B r^eta / D^beta + C / (r + eps)^gamma, with N parameters, D tokens, and r the share
        of the corpus whose validation loss is predicted: the domain's law is fitted with r, the general one's with 1 - r
Fit     power laws by least squares, the exponent by search; D-CPT by the Huber loss (delta 1e-3) of log losses, L-BFGS
        from a grid of starts, the best of them to the end, every parameter positive by exp
Limits  losses are all that it sees; 0.05 is the paper's bound, not a law of nature; nothing is predicted beyond the
        runs' largest N and D together, and a fit by which more of a corpus does not lower its loss is refused
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from curate.errors import DataError

Floats = npt.NDArray[np.float64]
TOKENS_UNIT = 0.2e9  # of T in the CMR law
SHARES = np.linspace(0, 1, 1001)
HUBER = 1e-3


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One finished run, or one moment of it."""

    params: float  # parameters of the model
    tokens: float  # trained on so far
    domain_share: float  # of the tokens, in [0, 1]
    domain_loss: float  # nats per token on held-out text of the domain
    general_loss: float  # nats per token on held-out text of what the model knew before

    def __post_init__(self) -> None:
        if min(self.params, self.tokens, self.domain_loss, self.general_loss) <= 0:
            raise DataError("`params`, `tokens` and losses are above 0")
        if not 0 <= self.domain_share <= 1:
            raise DataError("`domain_share` lies in 0 to 1")


class PowerLaw(msgspec.Struct, frozen=True):
    """y = a x^s + b."""

    a: float
    s: float
    b: float

    def at(self, x: npt.ArrayLike) -> Floats:
        return np.asarray(self.a * np.power(np.asarray(x, np.float64), self.s) + self.b)


class DCPT(msgspec.Struct, frozen=True):
    """Loss by parameters, tokens and the share of the corpus that it is measured on."""

    e: float
    a: float
    alpha: float
    b: float
    beta: float
    eta: float
    c: float
    gamma: float
    eps: float

    def at(self, params: npt.ArrayLike, tokens: npt.ArrayLike, share: npt.ArrayLike) -> Floats:
        """Loss in nats per token; the arguments broadcast."""
        n, d, r = (np.asarray(value, np.float64) for value in (params, tokens, share))
        return np.asarray(
            self.e + self.a / n**self.alpha + self.b * r**self.eta / d**self.beta
            + self.c / (r + self.eps) ** self.gamma
        )  # fmt: skip


def power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """Least squares over (a, s, b); x above 0. DataError for fewer than three different x."""
    from scipy.optimize import minimize_scalar

    at, of = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(set(x)) < 3 or min(x) <= 0:
        raise DataError("a power law needs three different values above 0", hint="add runs in between")

    def solved(s: float) -> tuple[float, float, float]:
        columns = np.stack([at**s, np.ones_like(at)], 1)
        (a, b), *_ = np.linalg.lstsq(columns, of, rcond=None)
        return float(((columns @ (a, b) - of) ** 2).sum()), float(a), float(b)

    starts = np.concatenate([-np.geomspace(4, 0.01, 60), np.geomspace(0.01, 4, 60)])
    i = int(np.argmin([solved(s)[0] for s in starts]))
    low, high = starts[max(i - 1, 0)], starts[min(i + 1, len(starts) - 1)]
    found = minimize_scalar(
        lambda s: solved(s)[0], bounds=(low, high), method="bounded", options={"xatol": 1e-10}
    )
    s = float(found.x) if found.fun <= solved(starts[i])[0] else float(starts[i])
    _, a, b = solved(s)
    return PowerLaw(a, s, b)


def critical_share(runs: Sequence[Run], max_increase: float, max_tokens: float) -> float | None:
    """The largest share of the runs at which the domain loss falls and the general loss rises by `max_increase` at most.

    Both against the earliest moment of the same share, at the last one within `max_tokens`; None where no share does.
    """
    feasible = []
    for share in sorted({run.domain_share for run in runs}):
        path = sorted(
            (run for run in runs if run.domain_share == share and run.tokens <= max_tokens),
            key=lambda run: run.tokens,
        )
        if len(path) < 2:
            continue
        first, last = path[0], path[-1]
        if last.domain_loss < first.domain_loss and last.general_loss - first.general_loss <= max_increase:
            feasible.append(share)
    return max(feasible, default=None)


def cmr(runs: Sequence[Run], max_increase: float = 0.05) -> tuple[PowerLaw, list[tuple[float, float]]]:
    """The law R(T), T in units of `TOKENS_UNIT`, and the (tokens, critical share) it goes through.

    DataError where fewer than three budgets have a feasible share, or the runs are of models of several sizes.
    """
    if len({run.params for run in runs}) > 1:
        raise DataError("the CMR law is of one model size", hint="fit each `params` by itself")
    points = []
    for tokens in sorted({run.tokens for run in runs}):
        share = critical_share(runs, max_increase, tokens)
        if share is not None:
            points.append((tokens, share))
    if len(points) < 3:
        raise DataError(
            f"{len(points)} token budgets have a feasible share, and the law needs three",
            hint="more evaluations within the runs, smaller shares, or a larger --max-increase",
        )
    return power_law([tokens / TOKENS_UNIT for tokens, _ in points], [share for _, share in points]), points


def d_cpt(runs: Sequence[Run], of: str) -> DCPT:
    """The law of the `domain` or the `general` loss.

    DataError for fewer runs than the law has parameters, and for a fit that does not fall with the share.
    """
    shares = np.array([run.domain_share if of == "domain" else 1 - run.domain_share for run in runs])
    losses = np.array([run.domain_loss if of == "domain" else run.general_loss for run in runs])
    n, d = np.array([run.params for run in runs]), np.array([run.tokens for run in runs])
    if len(runs) < 9 or len(np.unique(shares)) < 4:
        raise DataError(
            f"{len(runs)} runs of {len(np.unique(shares))} shares: the D-CPT law has nine parameters",
            hint="nine runs and four shares at least; moments of one run count",
        )
    law = _least_huber(n, d, shares, losses)
    seen = SHARES[(shares.min() <= SHARES) & (shares.max() >= SHARES)]
    if (np.diff(law.at(n.max(), d.max(), seen)) >= 0).any():
        raise DataError(
            f"by the fitted law the {of} loss does not fall with its share everywhere",
            hint="add runs at other shares; this one would give a mixture that nothing supports",
        )
    return law


def _least_huber(n: Floats, d: Floats, r: Floats, losses: Floats) -> DCPT:
    from scipy.optimize import minimize

    goal = np.log(losses)
    # sizes in units of their means, so that the parameters are of one magnitude; put back at the end
    n_unit, d_unit = float(np.exp(np.log(n).mean())), float(np.exp(np.log(d).mean()))
    scaled = (n / n_unit, d / d_unit)

    def cost(parameters: Floats) -> float:
        left = np.abs(np.log(_law(parameters).at(*scaled, r)) - goal)
        return float(np.where(left <= HUBER, left**2 / 2, HUBER * (left - HUBER / 2)).sum()) * 1e6

    low, spread = float(losses.min()), float(np.ptp(losses)) + 1e-3
    starts = [
        np.log([low * e, spread, alpha, spread / 2, beta, 1.0, spread * c, gamma, 0.1])
        for e, alpha, beta, c, gamma in product((0.5, 0.9), (0.1, 0.4), (0.1, 0.4), (0.05, 0.3), (0.3, 1.0))
    ]
    bounds = [(-14.0, 5.0)] * 8 + [(np.log(1e-4), 0.0)]

    def descended(start: Floats, steps: int) -> Any:
        return minimize(cost, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})

    promising = sorted((descended(start, 40) for start in starts), key=lambda found: float(found.fun))[:3]
    best = min((descended(found.x, 1000) for found in promising), key=lambda found: float(found.fun))
    law = _law(best.x)
    return msgspec.structs.replace(law, a=law.a * n_unit**law.alpha, b=law.b * d_unit**law.beta)


def _law(parameters: Floats) -> DCPT:
    e, a, alpha, b, beta, eta, c, gamma, eps = (float(value) for value in np.exp(parameters))
    return DCPT(e, a, alpha, b, beta, eta, c, gamma, eps)


def largest_share(shares: Sequence[float], general_losses: Sequence[float], limit: float) -> float | None:
    """The largest share, interpolated between its neighbours, at which the general loss is at most `limit`."""
    order = np.argsort(shares)
    r, loss = np.asarray(shares, np.float64)[order], np.asarray(general_losses, np.float64)[order]
    within = np.flatnonzero(loss <= limit)
    if not len(within):
        return None
    i = int(within[-1])
    if i + 1 == len(r):
        return float(r[i])
    return float(r[i] + (r[i + 1] - r[i]) * (limit - loss[i]) / (loss[i + 1] - loss[i]))


def best_share(general: DCPT, params: float, tokens: float, limit: float) -> float | None:
    """The largest domain share whose predicted general loss is at most `limit`."""
    predicted = general.at(params, tokens, 1 - SHARES[:-1])
    return largest_share(SHARES[:-1].tolist(), predicted.tolist(), limit)
