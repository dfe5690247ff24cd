"""What a process that runs stages imports."""

import importlib.util
import subprocess
import sys

import pytest

FIRST_ARRAY = """
import sys
import pyarrow as pa
from curate.engine.call import leave_pandas_out
from curate.recipe.recipe import from_tree
from curate.recipe.tree import Tree
from curate.stages.select import select

select.stage.function.__module__ = {module!r}
stages = [{{"select": "text <> ''"}}, {{"checkpoint": {{}}}}]
tree = {{"input": {{"path": "x.jsonl"}}, "stages": stages, "output": {{"path": "out"}}}}
leave_pandas_out(from_tree(Tree(tree, "recipe"), output="").steps)
pa.array(["text"])
assert ("pandas" in sys.modules) is {imported}
assert pa.array([1.5]).to_pandas().tolist() == [1.5]
"""


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="without pandas nothing imports it")
@pytest.mark.parametrize(("module", "imported"), [("curate.stages.select", False), ("my_stages", True)])
def test_pandas_is_imported_for_stages_of_users_alone(module: str, imported: bool) -> None:
    code = FIRST_ARRAY.format(module=module, imported=imported)
    subprocess.run([sys.executable, "-c", code], check=True)
