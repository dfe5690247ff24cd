import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from victims import STEPS, run


@pytest.fixture(scope="session")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of all victims: read it, never change it."""
    return run(tmp_path_factory.mktemp("ruled"), STEPS, canaries=True)
