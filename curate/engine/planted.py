"""What canaries are: for each step of a recipe, what can be planted into a sound row that the step must then find.

Verdict   the row must fail the stage's `_pass`: banned URLs, words of a list, repeated lines, filler text, too little
          text, items of evaluation sets (with `method: window` an edit)
Edit      what was planted must be gone from the text: e-mail and IP addresses, a line about javascript
Drop      the row must be dropped there: a language that the `select` leaves out
Copies    what must be found because it stands there more than once: planted_copies
Skip      the row must never become one: pages whose owner opted out
None      for stages that only measure, for stages of users, and for bounds so wide that the planted thing may pass;
          for `decontaminate` with a `reference`, or without an item of twice its n-gram's words that has an answer
"""

import html
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa

from curate.engine import planted_copies
from curate.engine.canary import Change, Host, Kind, at_line, with_line
from curate.engine.plan import schema_after
from curate.models.languages import normalise
from curate.recipe.recipe import CHECKPOINT, Recipe, Step
from curate.stages import _lists

ENTRIES = 20  # of a list, from its beginning
ITEMS = 1000  # of evaluation sets, likewise
# Written for this file, by the codes that models give; one is planted where a `select` leaves all of them out.
_TEXTS = {
    "de deu deu_Latn": "Der alte Fischer saß am Abend vor seinem Haus und flickte die Netze. Der Wind kam vom Meer und brachte den "
    "Geruch von Salz und Tang mit. Am nächsten Morgen wollte er früh hinausfahren, denn das Wetter sollte schön werden. "
    "Seine Tochter brachte ihm eine Tasse Tee und setzte sich zu ihm auf die Bank. Beide sahen lange "
    "schweigend auf das Wasser. Erst als es dunkel wurde, gingen sie ins Haus und machten die Lampe an.",
    "en eng eng_Latn": "The old fisherman sat in front of his house in the evening and mended the nets. The wind came from the sea "
    "and brought the smell of salt and weed with it. He wanted to leave early the next morning, since the weather would "
    "be fine. His daughter brought him a cup of tea and sat down beside him on the bench. For a long time both "
    "looked at the water in silence. Only when it grew dark did they go into the house and light the lamp.",
    "ru rus rus_Cyrl": "Старый рыбак сидел вечером перед своим домом и чинил сети. Ветер дул с моря и приносил запах соли и "
    "водорослей. На следующее утро он хотел выйти пораньше, потому что погода обещала быть хорошей. Дочь принесла ему "
    "чашку чая и села рядом с ним на скамейку. Оба долго молча смотрели на воду. Только когда стемнело, они вошли в дом "
    "и зажгли лампу.",
}


def kinds(recipe: Recipe, schema: pa.Schema) -> list[Kind]:
    """All that can be planted for a recipe, whose input has the columns of `schema`."""
    found = list(_opted_out(recipe, schema))
    for step in recipe.steps:
        if step.stage == CHECKPOINT:
            continue
        if step.stage == "url_filter":
            found += _banned_urls(step, step.settings())
        elif step.stage == "select":
            found += _other_language(recipe, step, schema)
        elif plan := _PLANS.get(step.stage):
            found += plan(step, step.settings())
        schema = schema_after(schema, step, step.spec(), step.settings())
    return found


def reads_pages(recipe: Recipe, schema: pa.Schema) -> bool:
    """Whether texts come out of pages."""
    return "html" in schema.names and any(step.stage == "extract" for step in recipe.steps)


def _opted_out(recipe: Recipe, schema: pa.Schema) -> Iterator[Kind]:
    if urls := [_below(entry) for path in recipe.input.opt_out_files for entry in _entries(path)]:
        yield Kind("opted-out page", None, "skip", lambda host: Change(url=_one(urls, host)))
    if recipe.input.tdm and reads_pages(recipe, schema):
        meta = '<meta name="tdm-reservation" content="1">'
        yield Kind("page with tdm-reservation", None, "skip", lambda host: Change(meta=meta))


def _banned_urls(step: Step, config: Any) -> Iterator[Kind]:
    from curate.stages.url_filter import files_of

    def entries(name: str) -> list[str]:
        return list(dict.fromkeys(entry for path in files_of(config, name) for entry in _entries(path)))

    def bare(name: str) -> list[str]:  # as the stage reads them: letters and digits alone
        words = (re.sub(r"[\x00-/:-`{-\x7f]+", "", entry.lower()) for entry in entries(name))
        return list(dict.fromkeys(filter(None, words)))

    def kind(what: str, url: Callable[[Host], str]) -> Kind:
        return Kind(what, step, "verdict", lambda host: Change(url=url(host)))

    site = "https://example.org"
    if domains := entries("domains"):
        yield kind("banned domain", lambda host: _below(_one(domains, host)))
    if urls := entries("urls"):
        yield kind("banned URL", lambda host: _one(urls, host))
    if words := bare("words"):
        yield kind("banned word in the URL", lambda host: f"{site}/{_one(words, host)}/{host.number}")
    if pieces := bare("substrings"):
        yield kind("banned piece of a word in the URL", lambda host: f"{site}/a{_one(pieces, host)}z")
    if len(soft := bare("soft_words")) >= config.min_soft_words:
        path = "/".join(soft[: config.min_soft_words])
        yield kind("URL of soft words", lambda host: f"{site}/{path}/{host.number}")


def _entries(path: str) -> list[str]:
    entries, _ = next(_lists.lines(path, comments=True))
    found = [str(entry).split(" #")[0].strip() for entry in entries[:ENTRIES].to_pylist()]
    return [entry for entry in found if entry]


def _one(entries: Sequence[str], host: Host) -> str:
    return entries[host.number % len(entries)]


def _below(entry: str) -> str:
    """An address that a domain or a URL of a list names."""
    entry = entry.removeprefix("*").lstrip(".").removesuffix("*")
    return entry if "://" in entry else f"https://{entry}"


def _other_language(recipe: Recipe, step: Step, schema: pa.Schema) -> Iterator[Kind]:
    from curate.io.query import Predicate

    if not any(s.stage == "language_id" and not s.when for s in recipe.steps[: step.index]):
        return
    predicate = Predicate(step.config["where"], {field.name: field.type for field in schema})
    for conjunct in predicate.conjuncts:
        if not re.match(r"lang\s*(=|in\b)", conjunct.text, re.I):
            continue
        asked = Predicate(conjunct.text, {field.name: field.type for field in schema})
        for codes, text in _TEXTS.items() if asked.columns == ("lang",) else ():
            written = pa.record_batch({"lang": pa.array(codes.split(), schema.field("lang").type)})
            if not asked.mask(written).any():
                name = f"text in `{codes.split()[0]}`"
                yield Kind(name, step, "drop", _instead(text))
                return


def _instead(text: str) -> Callable[[Host], Change]:
    return lambda host: Change(f"{host.number}. {text}")


def _repeated(step: Step, config: Any) -> Iterator[Kind]:
    def plant(host: Host) -> Change:
        return Change("\n".join([f"{' '.join(host.text[:160].split())} This is line {host.number}."] * 40))

    if min(config.max_dup_lines_ratio, config.max_dup_line_chars_ratio) < 0.9:
        yield Kind("repeated lines", step, "verdict", plant)


def _one_line_too_often(step: Step, config: Any) -> Iterator[Kind]:
    line = "This very line stands in the text more than once, word for word, which nobody wants to read."
    bound = config.max_dup_line_chars_ratio

    def plant(host: Host) -> Change:
        times = int(1.2 * bound * len(host.text) / len(line) / (1 - 1.2 * bound)) + 3
        return with_line(
            host, "\n".join([line] * times), line
        )  # not so often that the rules before it must mind

    if bound < 0.3:
        yield Kind("a line that is there again", step, "verdict", plant)


def _short(step: Step, config: Any) -> Iterator[Kind]:
    most = config.min_words // 2

    def plant(host: Host) -> Change:
        words = " ".join(host.text.split()[:most])
        return Change(
            f"{words if len(words) < 15 * most else host.text[:most]}."
        )  # without spaces: characters

    if most > 5:
        yield Kind("too little text", step, "verdict", plant)


def _filler(step: Step, config: Any) -> Iterator[Kind]:
    line = "Lorem ipsum dolor sit amet is what stands in this place."
    if config.filter_lorem_ipsum:
        yield Kind("filler text", step, "verdict", lambda host: with_line(host, line, line))


def _javascript(step: Step, config: Any) -> Iterator[Kind]:
    line = "Please enable javascript in your browser to see all of this page."
    if config.filter_javascript:
        yield Kind(
            "notice about javascript", step, "edit", lambda h: with_line(h, line, line), "num_removed_lines"
        )


def _capitals(step: Step, config: Any) -> Iterator[Kind]:
    most = config.max_removed_words_ratio

    def plant(host: Host) -> Change | None:
        words = host.text.split()[: int(2 * most * len(host.text.split())) + 12]
        lines = [" ".join(words[i : i + 10]).upper() for i in range(0, len(words), 10)]
        cased = sum(c.isupper() for c in lines[0]) > 0.7 * len(lines[0])
        return Change("\n".join([host.text, *lines]), needle=lines[0]) if cased else None

    if config.max_capitals_ratio < 0.6 and most < 0.3:
        yield Kind("lines in capitals", step, "verdict", plant)


def _personal(step: Step, config: Any) -> Iterator[Kind]:
    def mail(host: Host) -> Change:
        address = f"canary{host.number}@mail{host.number}.curate.net"
        return with_line(host, f"Letters of every kind reach us at {address} on all days.", address)

    def ip(host: Host) -> Change:
        address = f"8.8.{host.number // 200 % 200 + 1}.{host.number % 200 + 1}"
        return with_line(host, f"The old server answered at {address} for many years.", address)

    if config.emails:
        yield Kind("e-mail address", step, "edit", mail, "num_emails")
    if config.ips:
        yield Kind("public IP address", step, "edit", ip, "num_ips")


def _bad_words(step: Step, config: Any) -> Iterator[Kind]:
    lists = {normalise(code): _entries(path) for code, path in config.lists.items()}
    default = _entries(config.list) if config.list else []

    def plant(host: Host) -> Change | None:
        entries = lists.get(normalise(host.lang), default)
        line = f"Somebody said {_one(entries, host)} once." if entries else ""
        return with_line(host, line, line) if entries else None

    if not config.keep_fraction:
        yield Kind("bad word", step, "verdict", plant)


def _evaluation_item(step: Step, config: Any) -> Iterator[Kind]:
    from curate.stages._evaluation import items

    least = max(2 * config.words, config.min_words)
    asked = (one for one in itertools.islice(items(config.sets), ITEMS) if len(one.question.split()) >= least)
    answered = [one for one in asked if one.answers and len(one.answers[0].split()) <= config.answer_window]
    found = [" ".join(f"{one.question} {one.answers[0]}".split()) for one in answered]

    def plant(host: Host) -> Change:
        return at_line(host, _one(found, host))

    if found and not config.reference:
        how: Literal["edit", "verdict"] = "edit" if config.method == "window" else "verdict"
        yield Kind("item of an evaluation set", step, how, plant, "num_items")


_PLANS: dict[str, Callable[[Step, Any], Iterator[Kind]]] = {
    "gopher_repetition": _repeated, "fineweb_quality": _one_line_too_often, "gopher_quality": _short, "c4_quality": _filler,
    "c4_lines": _javascript, "refinedweb_lines": _capitals, "pii_mask": _personal, "bad_words": _bad_words,
    "decontaminate": _evaluation_item, **planted_copies.PLANS,
}  # fmt: skip


def planted_row(host: Host, change: Change, name: str, raw: Sequence[str], as_html: bool) -> dict[str, Any]:
    """The host's row with the change in it; a text goes into a page where the recipe reads pages."""
    row = {**host.row, "id": name, **dict(change.columns)}
    if change.url is not None:
        row["url"] = change.url
    text = host.text if change.text is None else change.text
    row |= dict.fromkeys(raw)
    row["text"] = None if as_html else text
    if as_html:
        row["html"] = page(text, change.meta).encode()
    return row


def page(text: str, meta: str) -> str:
    """A plain page of a text."""
    body = "\n".join(f"<p>{html.escape(line)}</p>" for line in text.split("\n"))
    head = f'<meta charset="utf-8">{meta}<title>Canary</title>'
    return f"<!DOCTYPE html><html><head>{head}</head><body><article>{body}</article></body></html>"
