"""What `why` tells of duplicates: how a dropped text differs from the kept one, and whom a kept document stands for."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from curate.cli.console import cell, printable, table
from curate.report.clusters import SIMILARITY
from curate.report.word_diff import word_diff

if TYPE_CHECKING:
    from curate.cli.dataset import Dataset

MEMBERS = 20  # of a cluster that are listed
_MARKS = {"same": ("", ""), "kept": ("[-", "-]"), "dropped": ("{+", "+}")}


def difference(dataset: "Dataset", row: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """How the text of a dropped row differs from the one kept in its place; `kept` is empty where there is none."""
    steps = dataset.plan.recipe.steps if dataset.plan else ()
    stage = next((step.stage for step in steps if step.name == row.get("drop_stage")), "")
    found: dict[str, Any] = {
        "similarity": SIMILARITY.get(stage, ""),
        "value": row.get("drop_value"),
        "note": "",
        "pieces": [],
    }
    if row.get("text") is None:
        found["note"] = "the text of dropped rows was not kept (output.dropped)"
    elif kept.get("text") is None:
        found["note"] = "the text of the kept one is not in this dataset"
    else:
        found["pieces"] = word_diff(kept["text"], row["text"])
    return found


def clusters(dataset: "Dataset", row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """For each step in which the row stands for others: how many they are with itself, and some of those dropped."""
    for step in dataset.plan.recipe.steps if dataset.plan else ():
        size = row.get(f"{step.name}_cluster_size")
        if isinstance(size, int) and size > 1:
            own = row.get(f"{step.name}_cluster_id") or row["id"]
            members = list(_members(dataset, f"{step.index:02d}_{step.name}", own))
            yield {
                "step": step.name,
                "similarity": SIMILARITY.get(step.stage, ""),
                "size": size,
                "members": members,
            }


def _members(dataset: "Dataset", step: str, kept_id: str) -> Iterator[dict[str, Any]]:
    import pyarrow.compute as pc

    told, left = ("id", "drop_reason", "drop_value", "kept_id"), MEMBERS
    for part in (part for part in dataset.dropped() if part.step == step):
        for batch in dataset.batches(part, skip=[n for n in dataset.schema(part).names if n not in told]):
            same = batch.filter(pc.fill_null(pc.equal(batch["kept_id"], kept_id), False)).slice(0, left)
            for one in same.to_pylist():
                yield {"id": one["id"], "reason": one["drop_reason"], "value": one["drop_value"]}
            left -= same.num_rows
            if not left:
                return


def print_clusters(found: list[dict[str, Any]]) -> None:
    for one in found:
        print(f"{one['step']}: kept for {one['size']:,} documents, itself among them")
        rows = [
            (
                cell(m["id"], 200),
                cell(m["reason"]),
                f"{one['similarity']} {m['value']:.4g}".strip() if m["value"] is not None else "",
            )
            for m in one["members"]
        ]
        for line in table(rows):
            print(f"     {line}")
        more = one["size"] - 1 - len(rows)
        if more > 0:
            print(
                f"     {'and ' if rows else ''}{more:,} {'more' if rows else 'that are not in this dataset'}"
            )
        print()


def print_difference(found: dict[str, Any]) -> None:
    """Both texts in one, as git's word diff has it."""
    if found["note"]:
        print(f"difference: {found['note']}\n")
        return
    near = (
        f", {found['similarity'] or 'similarity'} {found['value']:.4g}" if found["value"] is not None else ""
    )
    if all(kind in ("same", "skipped") for kind, _ in found["pieces"]):
        print(f"difference: none, the texts are the same{near}\n")
        return
    print(f"difference{near}: [-only in the kept one-] {{+only in this one+}}")
    out = ""
    for kind, text in found["pieces"]:
        if kind in _MARKS:
            out += text.join(_MARKS[kind])
        elif kind.startswith("more"):
            out += f"... {int(text):,} more characters ..."
        else:
            what = "are the same" if kind == "skipped" else "more are not shown"
            out += f"\n... {int(text):,} characters {what} ...\n"
    for line in printable(out).strip("\n").split("\n"):
        print(f"     {line}".rstrip())
    print()
