"""Laws of mixtures: the papers' worked numbers, and laws found again in what they made."""

import numpy as np
import pytest

from curate.errors import DataError
from curate.fit.mix import (
    DCPT,
    PowerLaw,
    Run,
    best_share,
    cmr,
    critical_share,
    d_cpt,
    largest_share,
    power_law,
)

# (a, s, b) of Gu et al. 2024 by model size, and the share at 20 billion tokens
CMR = {
    "460M": ((0.22524761, 0.26944345, -0.48139982), 0.298),
    "940M": ((0.7520627, 0.13720245, -1.06581937), 0.349),
    "1.6B": ((-2.36384831, -0.15125569, 1.59223649), 0.414),
    "3.1B": ((-2.5368197, -0.42071423, 0.84375368), 0.478),
}
# domain loss at shares 1, .75, .5, 1/3, and what it was at .25
DOMAIN = {
    "460M": ([1.4628, 1.4844, 1.5122, 1.5387], 1.5561),
    "940M": ([1.3723, 1.3910, 1.4155, 1.4385], 1.4538),
    "1.6B": ([1.3242, 1.3416, 1.3643, 1.3854], 1.3994),
    "3.1B": ([1.2585, 1.2750, 1.2965, 1.3170], 1.3305),
}


@pytest.mark.parametrize("size", CMR)
def test_the_papers_law_gives_its_ratio_at_20_billion_tokens(size):
    constants, share = CMR[size]
    assert PowerLaw(*constants).at(100) == pytest.approx(share, abs=6e-4)


@pytest.mark.parametrize("size", DOMAIN)
def test_the_domain_loss_at_a_quarter_is_foretold(size):
    losses, at_quarter = DOMAIN[size]
    assert power_law([1, 0.75, 0.5, 1 / 3], losses).at(0.25) == pytest.approx(at_quarter, abs=3e-4)


def test_a_power_law_is_found_again():
    law = PowerLaw(0.22524761, 0.26944345, -0.48139982)
    x = [20.0, 40.0, 80.0, 100.0, 160.0]
    found = power_law(x, law.at(x).tolist())
    assert found.at([10, 200]) == pytest.approx(law.at([10, 200]), abs=1e-6)
    with pytest.raises(DataError, match="three different"):
        power_law([1, 2, 2], [1, 2, 2])


def _run(share: float, tokens: float, domain: float, general: float) -> Run:
    return Run(params=4.6e8, tokens=tokens, domain_share=share, domain_loss=domain, general_loss=general)


def test_the_critical_share_is_the_largest_feasible():
    runs = [
        *(_run(share, 1e9, 2.0, 2.0) for share in (0.1, 0.3, 0.5)),
        _run(0.1, 5e9, 1.9, 2.0), _run(0.3, 5e9, 1.8, 2.05 - 1e-9), _run(0.5, 5e9, 1.7, 2.06),
    ]  # fmt: skip
    assert critical_share(runs, 0.05, 5e9) == 0.3
    assert critical_share(runs, 0.06 + 1e-9, 5e9) == 0.5
    assert critical_share(runs, 0.05, 1e9) is None  # nothing has fallen yet
    rising = [*runs, _run(0.3, 6e9, 2.1, 2.0)]
    assert critical_share(rising, 0.05, 6e9) == 0.1


def test_cmr_from_finished_runs():
    """With more tokens more of the domain is feasible; the law goes through what was found."""
    runs = [_run(share, 0.2e9, 2.0, 2.0) for share in np.arange(0.05, 1, 0.05)]
    for tokens in (2e9, 4e9, 8e9, 16e9):
        bound = float(PowerLaw(0.2, 0.25, -0.05).at(tokens / 0.2e9))
        runs += [
            _run(share, tokens, 1.9, 2.04 if share <= bound else 2.2) for share in np.arange(0.05, 1, 0.05)
        ]
    law, points = cmr(runs)
    assert [share for _, share in points] == pytest.approx([0.3, 0.35, 0.45, 0.5])
    assert law.at([10, 20, 40, 80]) == pytest.approx([0.3, 0.35, 0.45, 0.5], abs=0.03)
    with pytest.raises(DataError, match="0 token budgets"):
        cmr(runs, max_increase=-1)


TRUTH = {
    "domain": DCPT(e=1.1, a=300.0, alpha=0.35, b=120.0, beta=0.3, eta=0.2, c=0.25, gamma=0.5, eps=0.05),
    "general": DCPT(e=1.6, a=350.0, alpha=0.35, b=100.0, beta=0.3, eta=0.2, c=0.12, gamma=0.6, eps=0.02),
}


def _runs(noise: float) -> list[Run]:
    made = np.random.default_rng(7)
    return [
        Run(
            params=n, tokens=d, domain_share=share,
            domain_loss=float(TRUTH["domain"].at(n, d, share)) * float(1 + noise * made.standard_normal()),
            general_loss=float(TRUTH["general"].at(n, d, 1 - share)) * float(1 + noise * made.standard_normal()),
        )
        for n in (5e8, 1.8e9, 4e9) for d in (1e9, 3e9, 1e10) for share in (0.1, 0.33, 0.5, 0.67, 0.9)
    ]  # fmt: skip


@pytest.mark.slow  # 64 starts of L-BFGS
def test_d_cpt_is_found_again_under_noise():
    runs = _runs(0.01)
    for of in ("domain", "general"):
        law = d_cpt(runs, of)
        shares = np.array([0.15, 0.4, 0.6, 0.85])
        assert law.at(1.8e9, 1e10, shares) == pytest.approx(TRUTH[of].at(1.8e9, 1e10, shares), rel=0.01)
    base = float(TRUTH["general"].at(1.8e9, 1e10, 0.9))
    share = best_share(d_cpt(runs, "general"), 1.8e9, 1e10, 1.03 * base)
    truth = best_share(TRUTH["general"], 1.8e9, 1e10, 1.03 * base)
    assert share == pytest.approx(truth, abs=0.08)


def test_d_cpt_refuses_what_cannot_carry_it():
    with pytest.raises(DataError, match="nine parameters"):
        d_cpt(_runs(0)[:8], "domain")


def test_the_chemistry_example_crosses_its_limit_at_924():
    """Que et al. 2024: 10 billion tokens, base loss 2.8602, 3% allowed."""
    shares = [0.90, 0.91, 0.92, 0.924, 0.93, 0.94, 1.0]
    general = [2.9052, 2.9193, 2.9376, 2.9445, 2.9644, 2.9848, 3.4667]
    assert largest_share(shares, general, 1.03 * 2.8602) == pytest.approx(0.924, abs=6e-4)
    assert largest_share(shares, general, 2.9) is None
    assert largest_share(shares, general, 4.0) == 1.0


def test_a_run_out_of_bounds_is_refused():
    with pytest.raises(DataError, match="domain_share"):
        Run(params=1, tokens=1, domain_share=1.2, domain_loss=1, general_loss=1)
