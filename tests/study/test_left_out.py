"""What a suite holds out stays out of every arm: by id, by nearness, and seen in the tokens."""

import contextlib
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.main import main
from curate.errors import ConfigError
from curate.eval.heldout import hold_out, read_set
from curate.study import left_out as arms
from curate.study.plan import Arm, Primary, Study
from curate.study.runs import corpus_steps
from curate.train.tokens import Tokens

BYTES = str(Path(__file__).parents[1] / "stages/lists/tokenizer")
WORDS = [f"word{i}" for i in range(2000)]


def text(seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=100))


def write(name: str, rows: list[tuple[str, str]]) -> None:
    ids, texts = zip(*rows, strict=True)
    pq.write_table(pa.table({"name": list(ids), "text": list(texts)}), name)


def study(**arms: Arm) -> Study:
    return Study(
        name="s", arms=arms, control="raw", tokenizer=BYTES, suite="suite.yaml", primary=Primary(metric="bpb"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three documents of `raw.parquet` are held out by `name`; `other.parquet` has its texts, changed, under other ids."""
    rows = [(f"raw-{i}", text(i)) for i in range(30)]
    folder = tmp_path_factory.mktemp("held")
    with contextlib.chdir(folder):
        write("raw.parquet", rows)
        write("other.parquet", [(f"other-{i}", said + " and more") for i, (_, said) in enumerate(rows)])
        write("unlike.parquet", [(id_, text(1000 + i)) for i, (id_, _) in enumerate(rows)])
        hold_out(["raw.parquet"], "held", documents=3, id="name", workers=1)
        Path("suite.yaml").write_text("heldout: [{name: docs, path: held}]\n")
    return folder


@pytest.fixture
def held(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A copy of it, in which the test works; the ids that are held out."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return list(read_set("held")["id"].to_pylist())


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[Study, str], None]:
    """Does an arm's commands in this process."""

    def run(one: Study, arm: str) -> None:
        for step in corpus_steps(one, Path("out"), arm):
            monkeypatch.setattr(sys, "argv", ["curate", *step.arguments, "--workers", "1"])
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == 0, step.arguments
            assert Path(step.done).exists()

    return run


def test_an_arm_of_other_ids_and_texts_is_without_them(held, work, capsys) -> None:
    asked = study(
        raw=Arm(dataset="raw.parquet", tokenize=("--set", "input.id=name")),
        other=Arm(dataset="other.parquet"),
    )
    for arm in asked.arms:
        work(asked, arm)
    capsys.readouterr()
    numbers = {int(id_.removeprefix("raw-")) for id_ in held}
    assert set(Tokens.open("out/arms/raw/tokens").column("id").to_pylist()) == {
        f"raw-{i}" for i in range(30) if i not in numbers
    }
    assert Tokens.open("out/arms/other/tokens").documents == 27  # by their texts, for their ids are others
    arms.check(asked, Path("out"))  # finds nothing


def test_a_document_whose_text_is_another_goes_by_its_id(held, work, capsys) -> None:
    asked = study(
        raw=Arm(dataset="raw.parquet"),
        unlike=Arm(dataset="unlike.parquet", tokenize=("--set=input.id=name",)),
    )
    work(asked, "unlike")
    assert set(held).isdisjoint(Tokens.open("out/arms/unlike/tokens").column("id").to_pylist())
    assert Tokens.open("out/arms/unlike/tokens").documents == 27


def test_tokens_that_hold_them_are_refused(held, work, capsys, monkeypatch) -> None:
    raw = Arm(dataset="raw.parquet", tokenize=("--set", "input.id=name"))
    asked = study(raw=raw, other=Arm(dataset="other.parquet"))
    with monkeypatch.context() as patch:
        patch.setattr(arms, "flags", lambda *_: [])  # tokens that are older than the set
        work(asked, "raw")
    with pytest.raises(ConfigError, match="tokens of arm `raw` hold 3 documents") as refused:
        arms.check_arm(asked, Path("out"), "raw")
    assert refused.value.where == "out/arms/raw/tokens"
    assert any(f"`{id_}` first" in refused.value.what for id_ in held)
    given = study(raw=Arm(dataset="out/arms/raw/tokens"), other=Arm(dataset="other.parquet"))
    with pytest.raises(
        ConfigError, match="hold 3 documents"
    ) as again:  # given as tokens: by the ids of the set
        arms.check_arm(given, Path("out"), "raw")
    assert "--leave-out" in again.value.hint


def test_a_set_of_an_arms_own_is_refused(held) -> None:
    own = study(raw=Arm(dataset="other.parquet"), better=Arm(dataset="raw.parquet"))
    with pytest.raises(ConfigError, match="drawn from arm `better`"):
        arms.commands(own, Path("out"), "raw", "other.parquet")
    same = study(raw=Arm(dataset="raw.parquet"), again=Arm(dataset="raw.parquet", seed_offset=1))
    assert arms.commands(same, Path("out"), "again", "raw.parquet")  # A/A: of both alike


def test_columns_that_only_tokenize_knows_are_refused(held) -> None:
    mapped = study(
        raw=Arm(dataset="raw.parquet"), other=Arm(dataset="x", tokenize=("--set", "input.columns.text=body"))
    )
    with pytest.raises(ConfigError, match=r"by `input\.columns\.text`"):
        arms.commands(mapped, Path("out"), "other", "x")


def test_a_set_without_a_list_is_named(held) -> None:
    Path("suite.yaml").write_text("heldout: [{name: docs, path: held}, {name: plain, path: raw.parquet}]\n")
    assert arms.unmade(study(raw=Arm(dataset="raw.parquet"), other=Arm(dataset="other.parquet"))) == ["plain"]
