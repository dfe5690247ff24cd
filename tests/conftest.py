import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the project: pages with gold text, WARC, corpora, labelled sets."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the shared data at {folder}")
        pytest.skip(f"needs the shared data at {folder}")
    return folder
