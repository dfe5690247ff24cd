// The page of a dataset.
(() => {
  // Colours: one for each stage that is blamed, in the order of the recipe.
  const stages = [...new Set(page.reasons.map((reason) => reason.stage))];
  const colour = (stage) => `var(--s${stages.indexOf(stage) % 8})`;
  const words = (reason) => (/^\w+$/.test(reason.reason) ? reason.reason.replaceAll("_", " ") : `not ${reason.reason}`);

  // State: which rows are counted (null, or a dimension and one of its values), and which document is read.
  let chosen = null;
  const reading = { reason: 0, number: 0 }; // reason 0: the kept
  let tab = 0, whole = false; // the dimension that is shown, and whether all its values are
  const FEW = 12;

  function rows() {
    if (!chosen) return { kept: page.rows.kept, dropped: page.reasons.map((reason) => reason.rows), all: page.rows.in + page.rows.made };
    const value = page.dimensions[chosen.dimension].values[chosen.value];
    const dropped = page.reasons.map((_, i) => value.dropped[i] || 0);
    return { kept: value.kept, dropped, all: value.kept + sum(dropped) };
  }
  const label = (value) => (value.others ? `${count(value.others)} other values` : value.name || "(none)");

  function drawHead() {
    $("output").textContent = page.output;
    const now = rows();
    const what = chosen ? ` with ${page.dimensions[chosen.dimension].name} ${label(page.dimensions[chosen.dimension].values[chosen.value])}` : "";
    $("lead").replaceChildren(make("b", {}, count(now.kept)), ` of ${count(now.all)} rows kept `, make("small", {}, `${share(now.kept, now.all)}${what}`));
    const parts = stages.map((stage) => ({ name: stage, rows: sum(page.reasons.map((r, i) => (r.stage === stage ? now.dropped[i] : 0))), colour: colour(stage) }));
    const all = [{ name: "kept", rows: now.kept, colour: "var(--kept)" }, ...parts, ...(!chosen && page.rows.quarantined ? [{ name: "quarantined", rows: page.rows.quarantined, colour: "var(--faint)" }] : [])].filter((part) => part.rows);
    $("whole").replaceChildren(...all.map((part) => make("div", { style: { flex: `${part.rows} 1 0`, background: part.colour }, title: `${part.name}: ${count(part.rows)} rows, ${share(part.rows, now.all)}` })));
    $("legend").replaceChildren(...all.map((part) => make("li", {}, make("i", { style: { background: part.colour } }), part.name === "kept" || part.name === "quarantined" ? `${part.name} ` : `dropped by ${part.name} `, make("b", {}, count(part.rows)), ` ${share(part.rows, now.all)}`)));
    const tiles = [
      ["rows in", count(page.rows.in), ""], ["kept", count(page.rows.kept), share(page.rows.kept, page.rows.in)], ["dropped", count(page.rows.dropped), share(page.rows.dropped, page.rows.in)],
      ["quarantined", count(page.rows.quarantined), share(page.rows.quarantined, page.rows.in)], [page.tokens_counted ? "tokens kept" : "tokens kept, about", short(page.tokens), ""],
      ["text kept", bytes(page.text_bytes), ""], ["time", seconds(page.seconds), page.seconds ? `${bytes(page.bytes_in / page.seconds)}/s` : ""],
    ];
    if (page.canaries.planted) tiles.push(["canaries found", `${count(page.canaries.found)} of ${count(page.canaries.came)}`, `${count(page.canaries.planted)} planted`]);
    if (page.rows.made) tiles.splice(1, 0, ["made", count(page.rows.made), ""]);
    $("tiles").replaceChildren(...tiles.map(([name, value, more]) => make("div", {}, make("dt", {}, name), make("dd", {}, `${value} `, make("small", {}, more)))));
  }

  function drawFunnel() {
    const now = rows();
    const dropped = page.funnel.map((_, step) => sum(page.reasons.map((r, i) => (r.step === step ? now.dropped[i] : 0))));
    let left = chosen ? now.all : page.funnel.length ? page.funnel[0].rows : 0;
    const widest = Math.max(1, chosen ? now.all : Math.max(page.rows.in, ...page.funnel.map((step) => step.rows)));
    const line = (kind, ...cells) => make("div", { class: `row ${kind}`, role: "row" }, ...cells);
    const number = (text, more = "") => make("div", { class: `num ${more}`, role: "cell" }, text);
    const out = [line("head", make("div", {}, "step"), make("div", {}, ""), number("dropped"), number("rows left"), number(page.tokens_counted ? "tokens left" : "≈ tokens left", "tok"))];
    out.push(line("", make("div", { class: "name" }, make("b", {}, "rows in")), make("div", {}, make("div", { class: "track" }, make("div", { class: "k", style: { width: `${(100 * left) / widest}%` } }))), number(""), number(count(left)), number(chosen ? "" : short(page.tokens_in), "tok")));
    page.funnel.forEach((step, at) => {
      if (!step.where && !step.dropped) {
        out.push(line("idle", make("div", { class: "name" }, step.name), make("div", {}, ""), number(""), number(""), number("", "tok")));
        if (!chosen) left = step.left;
        return;
      }
      left = chosen ? left - dropped[at] : step.left;
      const pieces = stages.map((stage) => [stage, sum(page.reasons.map((r, i) => (r.step === at && r.stage === stage ? now.dropped[i] : 0)))]).filter(([, n]) => n)
        .map(([stage, n]) => make("div", { style: { width: `${(100 * n) / widest}%`, background: colour(stage) }, title: `dropped by ${stage}: ${count(n)} rows` }));
      out.push(line("", make("div", { class: "name" }, make("b", {}, step.name), step.where ? make("code", {}, step.where) : null),
        make("div", {}, make("div", { class: "track" }, make("div", { class: "k", style: { width: `${(100 * left) / widest}%` } }), ...pieces)),
        number(dropped[at] ? `−${count(dropped[at])}` : "0", "loss"), number(count(left)), number(chosen ? "" : short(step.tokens_left), "tok")));
    });
    $("funnel-rows").replaceChildren(...out);
    $("funnel-note").textContent = "Only a select and a dedup stage drop rows; the steps between them measure. " + (page.dropped_kept === "keys" ? "Tokens are known for the kept rows only, since the text of dropped rows was not kept." : `Tokens of dropped rows are ${page.tokens_counted ? "counted where token_count ran before, else " : ""}estimated from their characters.`);
  }

  function drawReasons() {
    const now = rows();
    const most = Math.max(1, ...now.dropped);
    fill("reason-list", ...stages.map((stage) => {
      const of = page.reasons.map((r, i) => [r, i]).filter(([r]) => r.stage === stage);
      const total = sum(of.map(([, i]) => now.dropped[i]));
      return make("div", { class: "group" },
        make("h3", {}, make("div", {}, make("span", { class: "key", style: { background: colour(stage) } }), stage), make("span", {}, `${count(total)} rows, ${share(total, now.all)}`)),
        ...of.map(([r, i]) => make("button", { class: "reason", type: "button", "data-reason": i, on: { click: () => { read(i + 1, 0); $("documents").scrollIntoView(); } } },
          make("span", { class: "what" }, words(r), r.rule ? make("small", {}, r.rule) : null), make("span", { class: "num" }, count(now.dropped[i])), make("span", { class: "num pale" }, share(now.dropped[i], now.all)),
          make("span", { class: "fill", style: { width: `calc(${(100 * now.dropped[i]) / most}% - 16px * ${now.dropped[i] / most})`, background: colour(stage) } }))));
    }));
    if (!stages.length) fill("reason-list", make("p", { class: "empty" }, "Nothing was dropped."));
  }

  function drawWhere() {
    if (!page.dimensions.length) { $("where").hidden = true; return; }
    fill("where-tabs", ...page.dimensions.map((dimension, i) => make("button", { role: "tab", type: "button", "aria-selected": String(i === tab), tabindex: i === tab ? 0 : -1, on: { click: () => { tab = i; whole = false; drawWhere(); }, keydown: (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (by) { tab = (tab + by + page.dimensions.length) % page.dimensions.length; drawWhere(); $("where-tabs").children[tab].focus(); }
    } } }, dimension.name)));
    const dimension = page.dimensions[tab];
    const total = (value) => value.kept + sum(Object.values(value.dropped));
    const most = Math.max(1, ...dimension.values.filter((value) => !value.others).map(total));
    const shown = whole || dimension.values.length <= FEW + 2 ? dimension.values : dimension.values.slice(0, FEW);
    fill("where-rows", make("div", { class: "head" }, make("div", {}, dimension.name), make("div", { class: "num" }, "rows"), make("div", {}, "kept, then dropped by stage"), make("div", { class: "num" }, "kept")),
      ...shown.flatMap((value, i) => {
        const all = total(value);
        const on = chosen && chosen.dimension === tab && chosen.value === i;
        const parts = stages.map((stage) => [stage, sum(page.reasons.map((r, n) => (r.stage === stage ? value.dropped[n] || 0 : 0)))]).filter(([, n]) => n);
        return [make("button", { class: "v", type: "button", "aria-pressed": String(!!on), title: label(value), on: { click: () => choose(on ? null : { dimension: tab, value: i }) } }, label(value)),
          make("span", { class: "num scale", style: { "--w": "0" } }, count(all)),
          make("div", { class: "track" }, make("div", { class: "k", style: { width: `${(100 * value.kept) / all}%` }, title: `kept: ${count(value.kept)}` }), ...parts.map(([stage, n]) => make("div", { style: { width: `${(100 * n) / all}%`, background: colour(stage) }, title: `dropped by ${stage}: ${count(n)}` }))),
          make("span", { class: "num" }, share(value.kept, all))];
      }),
      ...(shown.length < dimension.values.length ? [make("button", { class: "ghost more", type: "button", on: { click: () => { whole = true; drawWhere(); } } }, `Show all ${dimension.values.length}`)] : []));
    $("where-rows").querySelectorAll(".scale").forEach((node, i) => node.style.setProperty("--w", `${Math.min(100, (100 * total(dimension.values[i])) / most)}%`));
  }

  // A histogram: bars of kept, dropped here, dropped elsewhere, stacked; threshold lines above them.
  const W = 360, H = 150, PAD = 20;
  function bars(series, edges) {
    const n = series[0].bins.length, width = W / n, totals = series[0].bins.map((_, i) => sum(series.map((s) => s.bins[i])));
    const most = Math.max(1, ...totals), height = (rows) => (rows ? Math.max(0.8, ((H - PAD) * Math.sqrt(rows)) / Math.sqrt(most)) : 0);
    return totals.flatMap((total, i) => {
      let y = H;
      const full = height(total);
      return series.filter((s) => s.bins[i]).map((s) => {
        const h = (full * s.bins[i]) / total;
        y -= h;
        return draw("rect", { x: i * width + 0.4, y, width: width - 0.8, height: h, class: s.name }, draw("title", {}, document.createTextNode(`${edges(i)}: ${count(s.bins[i])} ${s.words}`)));
      });
    });
  }
  function drawHistograms() {
    if (!page.histograms.length) { $("thresholds").hidden = true; return; }
    let family = "";
    const out = [];
    for (const one of page.histograms) {
      if (one.stage !== family) out.push(make("div", { class: "family" }, (family = one.stage)));
      const low = one.edges[0], high = one.edges[one.edges.length - 1], scale = one.log ? (x) => Math.log10(Math.max(x, 0) + 1) : (x) => x;
      const at = (x) => Math.min(W, Math.max(0, (W * (scale(x) - scale(low))) / (scale(high) - scale(low))));
      const svg = draw("svg", { viewBox: `0 -4 ${W} ${H + 24}`, role: "img", "aria-label": `Histogram of ${one.column}` });
      const lines = one.marks.filter((mark) => mark.bound !== null); // else each language has its own
      for (const mark of lines) svg.append(draw("rect", { class: "out", x: mark.keeps === "min" ? 0 : at(mark.bound), y: 0, width: mark.keeps === "min" ? at(mark.bound) : W - at(mark.bound), height: H }));
      const span = (i) => `${i === 0 ? "up" : plain(one.edges[i])} to ${i === one.kept.length - 1 ? "the largest" : plain(one.edges[i + 1])}`;
      svg.append(...bars([{ name: "kept", words: "kept", bins: one.kept }, { name: "here", words: "dropped by this rule", bins: one.here }, { name: "elsewhere", words: "dropped by another", bins: one.elsewhere }], span));
      svg.append(draw("line", { class: "axis", x1: 0, x2: W, y1: H, y2: H }));
      const marks = one.log ? [0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8].filter((x) => x >= low && x <= high) : ticks(low, high);
      for (const x of marks) { const text = draw("text", { x: at(x), y: H + 14, "text-anchor": at(x) < 12 ? "start" : at(x) > W - 12 ? "end" : "middle" }); text.textContent = plain(x); svg.append(text); }
      for (const mark of lines) {
        const x = at(mark.bound);
        svg.append(draw("line", { class: "limit", x1: x, x2: x, y1: 6, y2: H }));
        const text = draw("text", { class: "limit-text", x: x + (x > W / 2 ? -5 : 5), y: 14, "text-anchor": x > W / 2 ? "end" : "start" });
        text.textContent = `${mark.keeps === "min" ? "≥" : "≤"} ${plain(mark.bound)}`;
        svg.append(text);
      }
      const name = one.column.startsWith(`${one.stage}_`) ? one.column.slice(one.stage.length + 1) : one.column;
      const dropped = sum(one.marks.map((mark) => mark.dropped));
      out.push(make("figure", { "data-column": one.column }, make("figcaption", {}, make("b", {}, name.replaceAll("_", " ")), make("span", { title: one.nothing ? `${count(one.nothing)} rows were dropped before, or have no value` : "" }, one.marks.length ? (dropped ? `${count(dropped)} dropped` : "none dropped") + (lines.length ? "" : ", by language") : "no threshold")), svg));
    }
    $("histograms").replaceChildren(...out);
  }

  function drawLengths() {
    const per = page.lengths.per_decade, unit = page.lengths.unit, kept = page.lengths.kept.length ? page.lengths.kept : [];
    const dropped = page.reasons.reduce((total, reason) => (reason.lengths.length ? reason.lengths.map((n, i) => n + (total[i] || 0)) : total), []);
    const size = Math.max(kept.length, dropped.length);
    const both = Array.from({ length: size }, (_, i) => (kept[i] || 0) + (dropped[i] || 0));
    const first = both.findIndex((n) => n), last = size - 1 - [...both].reverse().findIndex((n) => n);
    if (first < 0) { $("lengths").hidden = true; return; }
    const edge = (i) => 10 ** (i / per), wide = 1136, n = last - first + 1, tall = 190;
    const most = Math.max(1, ...both), step = wide / n, svg = draw("svg", { viewBox: `0 0 ${wide} ${tall + 24}`, role: "img", "aria-label": `Rows by length in ${unit}` });
    for (let i = first; i <= last; i++) {
      let y = tall;
      for (const [name, list] of [["kept", kept], ["here", dropped]]) {
        const rows = list[i] || 0, h = ((tall - 18) * rows) / most;
        y -= h;
        if (rows) svg.append(draw("rect", { class: name, x: (i - first) * step + 1, y, width: step - 2, height: h }, draw("title", {}, document.createTextNode(`${plain(edge(i))} to ${plain(edge(i + 1))} ${unit}: ${count(rows)} ${name === "kept" ? "kept" : "dropped"}`))));
      }
      const text = draw("text", { x: (i - first) * step, y: tall + 15 });
      text.textContent = plain(Number(edge(i).toPrecision(2)));
      svg.append(text);
    }
    svg.append(draw("line", { class: "axis", x1: 0, x2: wide, y1: tall, y2: tall }));
    const texts = sum(both);
    $("lengths-note").textContent = `${unit === "tokens" ? "Tokens of each document that is kept" : "Characters of each document, kept and dropped"}, ${per} bars to a power of ten: ${count(texts)} documents. Empty ones are in the first bar.` + (page.dropped_kept === "sample" ? " Of the dropped rows only a sample is in the dataset." : page.dropped_kept === "keys" ? " The text of dropped rows was not kept." : "");
    $("lengths-plot").replaceChildren(make("figure", {}, svg));
  }

  // Duplicates: how many clusters of each size, what it took of each source, and documents beside the one kept.
  const most = page.dedups.reduce((best, one, i, all) => (one.dropped > all[best].dropped ? i : best), 0);
  const pairing = { step: most, list: "largest", number: 0, member: 0 };
  const cells = (head, ...names) => make("div", { class: "head" }, make("div", {}, head), ...names.map((name) => make("div", { class: name ? "num" : "" }, name)));
  function drawClusters() {
    if (!page.dedups.length) { $("clusters").hidden = true; return; }
    tabs("clusters-tabs", page.dedups.map((one) => one.name), pairing.step, (i) => { Object.assign(pairing, { step: i, list: "largest", number: 0, member: 0 }); drawClusters(); });
    const one = page.dedups[pairing.step];
    const note = [`${one.name} dropped ${count(one.dropped)} of ${count(one.rows)} rows (${share(one.dropped, one.rows)}) in favour of ${one.clusters ? `the ${count(one.clusters)} kept for their clusters` : "others"}.`];
    if (one.elsewhere) note.push(`For ${count(one.elsewhere)} of them the kept document is not in this dataset, or not counted here: it was dropped later, or it is in an index.`);
    if (one.to_look) note.push(one.looked ? `Of ${count(one.to_look)} pairs above the threshold${one.estimated ? " in the sample kept" : ""} ${count(one.looked)} were looked at: ${count(one.alike)} differ only in names or numbers.` : `None of ${count(one.to_look)} pairs above the threshold could be looked at: ${page.dropped_kept === "keys" ? "the text of dropped rows was not kept (output.dropped)." : "their texts are too long, or not in this dataset."}`);
    $("clusters-note").textContent = note.join(" ");
    const highest = Math.max(1, ...one.sizes.map((size) => size.clusters));
    fill("clusters-sizes", cells("documents in it", "", "clusters", "documents"), ...one.sizes.flatMap((size) => [make("span", {}, size.low === size.high ? count(size.low) : `${count(size.low)} to ${count(size.high)}`), track(size.clusters, highest, "k"), ...numbers(count(size.clusters), count(size.documents))]));
    if (!one.sizes.length) fill("clusters-sizes", make("p", { class: "note" }, one.clusters || !one.dropped ? "No cluster of two documents or more." : "Sizes are not known."));
    $("removal").hidden = !one.sources;
    fill("removal-rows", cells("source", "", "rows in", "dropped", "share"), ...one.removal.flatMap((from) => {
      const much = from.dropped * 2 > from.rows;
      return [make("span", { class: "v", title: from.source }, ...visible(from.source || "(none)")), track(from.dropped, from.rows, "gone"), ...numbers(count(from.rows), count(from.dropped)), make("span", { class: `num ${much ? "much" : ""}` }, share(from.dropped, from.rows), much ? " ▲" : "")];
    }));
    const left = one.sources - one.removal.length;
    $("removal-note").textContent = [one.estimated ? "Scaled up from the sample of dropped rows that is here." : "", one.halved ? `▲ ${count(one.halved)} of ${count(one.sources)} sources lost more than half of their rows.` : `No source lost more than half of its rows.`, left ? `${count(left)} more lost ${one.removal.length < 20 ? "nothing" : "less, or nothing"}.` : ""].join(" ");
    drawTwins();
  }

  function drawTwins() {
    const one = page.dedups[pairing.step];
    if (!one[pairing.list].length) pairing.list = one.largest.length ? "largest" : "pairs";
    const pick = (list, cluster, number) => make("button", { class: "one", type: "button", "aria-pressed": String(pairing.number === number), title: cluster.kept.id, on: { click: () => { Object.assign(pairing, { list, number, member: 0 }); drawTwins(); } } },
      make("b", {}, ...visible(cluster.kept.id)), make("span", {}, list === "largest" ? count(cluster.size) : cluster.members[0] && cluster.members[0].value !== null ? cluster.members[0].value.toFixed(3) : ""), make("small", {}, ...visible(cluster.kept.source)));
    const lists = [["largest", "Largest clusters"], ["pairs", "Only names or numbers differ"]].filter(([list]) => one[list].length);
    fill("twins-list", lists.length > 1 ? make("div", { class: "which" }, ...lists.map(([list, title]) => make("button", { type: "button", "aria-pressed": String(pairing.list === list), on: { click: () => { Object.assign(pairing, { list, number: 0, member: 0 }); drawTwins(); } } }, title))) : make("h4", {}, ...lists.map(([, title]) => title)),
      ...one[pairing.list].map((cluster, i) => pick(pairing.list, cluster, i)), pairing.list === "pairs" && one.pairs.length < one.alike ? make("h4", {}, `${count(one.pairs.length)} of ${count(one.alike)}`) : "");
    const cluster = one[pairing.list][pairing.number];
    $("twins").hidden = !cluster;
    if (cluster) drawPair(one, cluster);
  }

  const similar = (one, member) => (member && member.value !== null ? `${one.similarity} ${member.value.toFixed(3)}`.trim() : "");
  function drawPair(one, cluster) {
    const member = cluster.members[pairing.member];
    const about = (of) => [make("span", { class: "mono" }, ...visible(of.id)), make("small", {}, ...visible([of.source, of.lang, of.chars === null ? "" : `${count(of.chars)} characters`].filter((x) => x).join(" · "))), of.url ? make("small", {}, ...visible(of.url)) : null];
    const steps = cluster.members.length > 1 ? make("div", { class: "steps" }, ...cluster.members.map((_, i) => make("button", { type: "button", "aria-label": `Dropped document ${i + 1}`, "aria-pressed": String(i === pairing.member), on: { click: () => { pairing.member = i; drawPair(one, cluster); } } }, String(i + 1)))) : null;
    fill("twins-sides", make("div", {}, make("span", { class: "who" }, "kept"), cluster.fate ? ` ${cluster.fate}` : "", ...about(cluster.kept)),
      member ? make("div", {}, steps, make("span", { class: "who out" }, "dropped"), ` ${[words(member), similar(one, member)].filter((x) => x).join(", ")}`, ...about(member)) : make("div", {}, make("span", { class: "who out" }, "dropped"), make("small", {}, `${count(cluster.size - 1)} rows, not in this dataset`)));
    const shown = cluster.members.length < cluster.size - 1 ? make("div", { class: "fold" }, `${count(cluster.members.length)} of the ${count(cluster.size - 1)} dropped documents of this cluster are shown`) : null;
    $("twins-text").replaceChildren(...(member && member.pieces.length ? hunks(member.pieces) : [make("p", { class: "empty" }, member && member.chars === 0 && cluster.kept.chars === 0 ? "Both texts are empty." : "The text of one of them is not in this dataset" + (page.dropped_kept === "keys" ? ": of dropped rows only the keys were kept (output.dropped)." : "."))]), ...(shown ? [shown] : []));
    $("twins-text").scrollTop = 0;
  }

  const looking = { step: 0, task: 0 };
  function drawContamination() {
    if (!page.contamination.length) { $("contamination").hidden = true; return; }
    tabs("contamination-tabs", page.contamination.map((one) => one.name), looking.step, (i) => { Object.assign(looking, { step: i, task: 0 }); drawContamination(); });
    const one = page.contamination[looking.step];
    $("contamination-note").textContent = (one.tasks.length ? `${count(one.documents)} documents hold items of evaluation sets; ${count(one.failed)} of them failed.` : "No item of an evaluation set was found.") + (one.unknown ? ` What ${count(one.unknown)} more documents hold, which were dropped for it, was not kept (output.dropped).` : "");
    document.querySelector("#contamination .found").hidden = !one.tasks.length;
    fill("tasks", cells("task", "items", "documents", "failed"), ...one.tasks.map((task, i) => make("button", { type: "button", "aria-pressed": String(i === looking.task), on: { click: () => { looking.task = i; drawContamination(); } } }, make("span", {}, ...visible(task.name)), ...numbers(count(task.items), count(task.documents), count(task.failed)))));
    const task = one.tasks[looking.task];
    $("matches").replaceChildren(...(task ? task.matches.map((match) => make("article", {}, make("div", { class: "meta" }, make("b", {}, ...visible(match.item)), match.failed ? make("span", { class: "flag" }, match.reason.replaceAll("_", " ")) : make("span", {}, "passed"), match.value === null ? null : make("span", {}, `score ${plain(match.value)}`), make("span", { class: "mono" }, ...visible(match.id))), make("p", { dir: "auto" }, ...visible(match.text)))) : []), ...(task && !task.matches.length ? [make("p", { class: "empty" }, "In every document that holds an item of this task, an item of another was found better.")] : []));
  }

  const domain = (url) => ((/^[A-Za-z][A-Za-z0-9+.-]*:\/\/(?:[^/@?#]*@)?([^/:?#]+)/.exec(url) || [, ""])[1].toLowerCase().replace(/^www[.]/, ""));
  const facet = { language: (d) => d.lang, source: (d) => d.source, year: (d) => d.year, domain: (d) => domain(d.url) };
  function sampled(reason) {
    const documents = page.documents[reason] || [];
    if (!chosen) return documents;
    const { name, values } = page.dimensions[chosen.dimension], value = values[chosen.value];
    const listed = new Set(values.map((v) => v.name));
    return documents.filter((d) => (value.others ? !listed.has(facet[name](d)) : facet[name](d) === value.name));
  }

  function drawPicks() {
    const now = rows();
    const pick = (at, text, n) => make("button", { class: "pick", type: "button", role: "option", "aria-selected": String(reading.reason === at), tabindex: reading.reason === at ? 0 : -1, "data-pick": at, on: { click: () => read(at, 0) } }, text, make("span", {}, count(n)));
    const list = [make("h3", {}, "kept"), pick(0, "a sample of the kept", now.kept)];
    for (const stage of stages) {
      const of = page.reasons.map((r, i) => [r, i]).filter(([r, i]) => r.stage === stage && (now.dropped[i] || reading.reason === i + 1));
      if (of.length) list.push(make("h3", {}, stage), ...of.map(([r, i]) => pick(i + 1, words(r), now.dropped[i])));
    }
    fill("picks", ...list);
  }


  function marked(text, match) { // the first place of a match, whatever the case
    const at = text.toLowerCase().indexOf(match.toLowerCase());
    return at < 0 ? visible(text) : [...visible(text.slice(0, at)), make("mark", {}, ...visible(text.slice(at, at + match.length))), ...visible(text.slice(at + match.length))];
  }

  function drawDocument() {
    const reason = reading.reason ? page.reasons[reading.reason - 1] : null;
    const documents = sampled(reading.reason);
    reading.number = Math.min(reading.number, Math.max(0, documents.length - 1));
    const one = documents[reading.number];
    fill("pager", ...documents.map((_, i) => make("button", { class: "n", type: "button", "aria-label": `Document ${i + 1}`, "aria-current": String(i === reading.number), on: { click: () => read(reading.reason, i) } }, String(i + 1))), make("span", { class: "hint" }, "← → documents, ↑ ↓ reasons"));
    if (!one) {
      $("text").replaceChildren(make("p", { class: "empty" }, reason || page.rows.kept ? `None of the sampled documents is among the rows chosen above. Try: curate peek ${page.output}${reason ? ` --dropped ${reason.stage}` : ""} --where "..."` : "No row was kept."));
      $("about").replaceChildren();
      return;
    }
    const body = make("p", { dir: "auto" });
    if (one.before) body.append(make("span", { class: "gap" }, `… ${count(one.before)} characters before\n`));
    one.pieces.forEach((piece, i) => body.append(...(i % 2 ? [make("mark", {}, ...visible(piece))] : visible(piece))));
    if (one.after) body.append(make("span", { class: "gap" }, `\n… ${count(one.after)} more characters`));
    if (one.tokens !== null) { if (one.tokens > page.lengths.spelled) body.append(make("span", { class: "gap" }, `\n… the text of the first ${count(page.lengths.spelled)} tokens; ${count(one.tokens - page.lengths.spelled)} more are not shown`)); }
    else if (one.chars === null) body.append(make("span", { class: "gap" }, "The text of this row was not kept (output.dropped)."));
    else if (!one.chars) body.append(make("span", { class: "gap" }, "(empty)"));
    $("text").replaceChildren(body);
    $("text").scrollTop = 0;
    const about = [];
    about.push(make("div", { class: `verdict ${reason ? "" : "kept"}` }, reason ? words(reason) : "kept"), make("div", { class: "by" }, reason ? `dropped by ${reason.stage}` : "passed every step"));
    if (one.value || one.threshold) about.push(make("div", { class: "versus" }, one.value ? make("div", {}, make("span", {}, "value"), make("b", {}, one.value)) : null, one.threshold ? make("div", {}, make("span", {}, "threshold"), make("b", {}, one.threshold)) : null));
    if (reason && one.chars) about.push(make("div", { class: "by" }, one.marked ? `${count(one.marked)} ${one.marked === 1 ? "passage" : "passages"} marked` : one.points ? "no passage in the part that was looked at" : "the rule looks at the whole document"));
    const facts = [["found", one.match], ["kept in its place", one.kept_id], ["url", one.url], ["source", one.source], ["language", one.lang], ["year", one.year], ["characters", one.chars === null ? "" : count(one.chars)], ["tokens", one.tokens === null ? "" : count(one.tokens)], ["id", one.id]].filter(([, value]) => value);
    about.push(make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", { class: name === "id" || name === "kept in its place" ? "mono" : "" }, ...(name === "url" && one.match ? marked(value, one.match) : visible(value)))])));
    if (one.values.length) about.push(make("dl", {}, make("dt", {}, reason ? `what ${reason.stage} measured` : "columns")), make("table", {}, ...one.values.map(([name, value, bound]) => make("tr", { class: reason && reason.rule.startsWith(`${name} `) ? "bad" : "" }, make("td", {}, name.replaceAll("_", " "), make("small", {}, bound)), make("td", {}, value)))));
    const command = `curate why ${page.output} ${one.id}`;
    about.push(make("button", { class: "cmd", type: "button", title: "Copy", on: { click: () => navigator.clipboard && navigator.clipboard.writeText(command) } }, ...visible(command)));
    $("about").replaceChildren(...about);
  }

  function read(reason, number) { reading.reason = reason; reading.number = number; drawPicks(); drawDocument(); }
  function choose(what) { chosen = what; drawFilter(); drawHead(); drawFunnel(); drawReasons(); drawWhere(); drawPicks(); drawDocument(); }
  function drawFilter() {
    const filter = $("filter");
    filter.replaceChildren(make("option", { value: "" }, "all rows"), ...page.dimensions.map((dimension, i) => make("optgroup", { label: dimension.name }, ...dimension.values.map((value, n) => make("option", { value: `${i} ${n}`, selected: !!chosen && chosen.dimension === i && chosen.value === n }, label(value))))));
    filter.classList.toggle("on", !!chosen);
  }

  $("filter").addEventListener("change", (event) => { const [dimension, value] = event.target.value.split(" ").map(Number); choose(event.target.value ? { dimension, value } : null); });
  document.querySelector("#documents .reader").addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const side = { ArrowRight: 1, ArrowLeft: -1 }[event.key], down = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (side) { const n = sampled(reading.reason).length; if (n) read(reading.reason, (reading.number + side + n) % n); event.preventDefault(); }
    if (down && !event.target.closest(".text")) {
      const picks = [...$("picks").querySelectorAll(".pick")], at = picks.findIndex((pick) => pick.getAttribute("aria-selected") === "true");
      const next = picks[Math.min(picks.length - 1, Math.max(0, at + down))];
      if (next) { read(Number(next.dataset.pick), 0); const pick = $("picks").querySelector("[aria-selected=true]"); pick.focus(); pick.scrollIntoView({ block: "nearest" }); }
      event.preventDefault();
    }
  });
  $("documents-note").textContent = `Up to ten documents for each reason, drawn by a hash of their id. Marked is what the rule objects to.`;
  $("foot").textContent = `curate ${page.curate}, recipe ${page.title}, digest ${page.digest}. Every number is of the journal; the page asks no network for anything.`;
  if (page.reasons.length) reading.reason = 1 + page.reasons.reduce((best, r, i, all) => (r.rows > all[best].rows ? i : best), 0);
  choose(null);
  drawHistograms();
  drawLengths();
  drawClusters();
  drawContamination();
  for (const link of document.querySelectorAll(".bar nav a")) link.hidden = document.querySelector(link.getAttribute("href")).hidden;
})();
