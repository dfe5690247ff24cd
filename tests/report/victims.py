"""A small corpus with a victim for several rules and a document that attacks the page; and its run."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HOSTILE = (
    '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2"><!-- <script> ]]> &lt; &amp; '
    "line\u2028break\u2029 right\u202eto left\u202c \x07bell \x1b[31m é 😀 ${title} $data"
)
GOOD = (
    "The river that runs past the old mill rises in the hills to the north, and for most of the year it is shallow. In "
    "spring the melting snow turns it brown and loud, and the people of the village move their sheep to the meadows. "
    "Nobody who has lived there for long builds close to the water, number {}, and that is how it has always been."
)


def texts() -> list[str]:
    """40 good ones, 5 short, 4 that repeat lines, 3 with hashes, 2 the same as the first, the hostile one last."""
    good = [GOOD.format(i) for i in range(40)]
    short = [f"Too short, number {i}." for i in range(5)]
    menus = [GOOD.format(f"menu {i}") + "\nAdd to the basket and go on" * 12 for i in range(4)]
    hashes = [GOOD.format(f"hash {i}") + " # one" * 30 for i in range(3)]
    return [*good, *short, *menus, *hashes, good[0], good[0], f"{GOOD.format('x')} {HOSTILE}"]


def table() -> pa.Table:
    """Sources a, b and `<b>`; three languages, one of them an attack; years and domains."""
    rows = texts()
    n = len(rows)
    return pa.table({
        "key": [f"doc-{i:02d}" for i in range(n - 1)] + ["<hostile> & 'id'"],
        "text": pa.array(rows, pa.large_string()),
        "url": [f"https://www.site{i % 4}.example/{i}" for i in range(n - 1)] + ["javascript:alert(1)//</script>"],
        "source": [("a", "b")[i % 2] for i in range(n - 1)] + ["<b>c</b>"],
        "lang": [("en", "de")[i % 3 == 0] for i in range(n - 1)] + ["</script>"],
        "date": [f"{2020 + i % 3}-01-01" for i in range(n)],
    })  # fmt: skip


def run(folder: Path, steps: list[Any], *, canaries: bool = False, **output: Any) -> Path:
    """Run a recipe on the table; returns the output."""
    import curate

    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(), folder / "in.parquet")
    recipe = {
        "name": "<i>rules</i>",
        "input": {"path": str(folder / "in.parquet"), "id": "key"},
        "stages": steps,
        "output": {"path": str(folder / "out"), **output},
        "canaries": canaries,
    }
    curate.run(recipe, workers=1)
    return folder / "out"


STEPS: list[Any] = [
    {"gopher_quality": {}},
    {"gopher_repetition": {}},
    {"select": "gopher_quality_pass and gopher_repetition_pass"},
    "exact_dedup",
    "token_count",
]
