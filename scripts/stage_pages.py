"""Write one Markdown page per stage, from its docstring and its Config: `make docs`.

.venv/bin/python scripts/stage_pages.py curate/stages/pages
"""

import sys
from pathlib import Path

import msgspec

from curate import stages
from curate.cli.stage import field_comments


def page(name: str) -> str:
    """What the stage says of itself, and its options."""
    spec = stages.find(name)
    summary, _, contract = (sys.modules[spec.module].__doc__ or "").strip().partition("\n\n")
    parts = [f"# {name}", summary, "```text\n" + contract.rstrip() + "\n```", "## Options"]
    parts.append("\n".join(options(spec.config)) or "None.")
    parts.append(
        f"Version {spec.version}. Written by `make docs`: change the docstring in `curate/stages/{name}.py`."
    )
    return "\n\n".join(parts) + "\n"


def options(config: type[msgspec.Struct]) -> list[str]:
    """A table with a line per field."""
    comments = field_comments(config)
    lines = []
    for field in msgspec.structs.fields(config):
        default = "required" if field.required else f"`{msgspec.json.encode(_default(field)).decode()}`"
        lines.append(f"| `{field.name}` | {default} | {comments[field.name]} |")
    return ["| option | default | what it is |", "| --- | --- | --- |", *lines] if lines else []


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: stage_pages.py FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    built_in = [name for name in stages.names() if stages.find(name).module == f"curate.stages.{name}"]
    for stale in {path.stem for path in folder.glob("*.md")} - set(built_in):
        (folder / f"{stale}.md").unlink()
    for name in built_in:
        (folder / f"{name}.md").write_text(page(name))


if __name__ == "__main__":
    main()
