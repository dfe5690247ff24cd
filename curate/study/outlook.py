"""What a plan costs and what it could see, before it begins."""

from pathlib import Path
from typing import Any

import msgspec

from curate.study import kinds
from curate.study.plan import Study
from curate.study.runs import suite_name
from curate.study.scores import earlier, scale_of
from curate.study.verdict import plan_sees


def outlook(study: Study, store: Path) -> dict[str, Any]:
    """Runs, tokens, hours and the smallest difference of the primary metric that the plan sees, before it begins.

    Hours and difference are None where the store has no run of the same size and budget.
    """
    runs = [arm for arm in study.arms for _ in study.seeds_of(arm) for _ in study.matchings]
    resolved = {arm: kinds.resolved(study, arm) for arm in study.arms}
    scale = scale_of(msgspec.to_builtins(resolved[study.control]))
    before = earlier(store, suite_name(study), [study.primary.metric], scale, set())
    spread, control = before.spreads[study.primary.metric], len(study.seeds_of(study.control))
    comparisons = (len(study.arms) - 1) * len(study.all_metrics()) * len(study.matchings)
    sees = None
    if spread.df:
        sees = plan_sees(spread.variance**0.5, study.seeds, control, comparisons, spread.df, study.alpha)
    return {
        "runs": len(runs), "tokens": sum(resolved[arm].tokens for arm in runs),
        "hours": None if before.seconds is None else before.seconds * len(runs) / 3600,
        "smallest_detectable": sees, "spread": spread, "comparisons": comparisons,
    }  # fmt: skip
