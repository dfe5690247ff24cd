"""Turn raw text into a pretraining corpus. Public: `run`, `read`, `stages.NAME.NAME(batch, Config())`; the rest is private."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["read", "run"]


def __getattr__(name: str) -> Any:  # nothing heavy is imported before it is used
    if name == "read":
        from curate.engine.run import read

        return read
    if name == "run":
        from curate.engine.api import run

        return run
    raise AttributeError(f"module 'curate' has no attribute '{name}'")
