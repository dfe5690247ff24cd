"""When a run is lost: its loss is no number, or stays above that of a model that has learned nothing.

A loss that rises is not divergence by itself: data change (a phase, a repeated block that was learned by heart), and a
spike may heal. So the mean of the last 20 losses must be, for 100 steps on end, both above ln(vocabulary), the loss of a
model to which all tokens are alike, and `divergence` nats above the lowest such mean (at most ln(vocabulary)). What is
not seen: a run that falls back to less than ln(vocabulary), to the frequencies of words say. By its loss alone that one
cannot be told from harder data; it costs its steps, and its result shows it.
"""

import math

from curate.train.checkpoint import State

MEAN_OF = 20  # losses
PATIENCE = 100  # steps


def watched(state: State, loss: float, norm: float, vocabulary: int, nats: float) -> str:
    """Take in a step's loss and its gradient's norm; why the run is lost, or ''. `nats` 0: only for what is no number."""
    if not math.isfinite(loss) or not math.isfinite(norm):
        return f"the loss is {loss}, the gradient's norm {norm}"
    state.recent = [*state.recent[1 - MEAN_OF :], loss]
    if len(state.recent) < MEAN_OF:
        return ""
    now, untrained = sum(state.recent) / MEAN_OF, math.log(vocabulary)
    state.lowest = min(state.lowest, now)
    level = max(untrained, min(state.lowest, untrained) + nats)
    state.above = state.above + 1 if now > level else 0
    if not nats or state.above < PATIENCE:
        return ""
    return (
        f"the loss stays above {level:.3f} for {PATIENCE} steps, at {now:.3f} (means of {MEAN_OF} steps; lowest "
        f"{state.lowest:.3f}; a model that has learned nothing {untrained:.3f})"
    )
