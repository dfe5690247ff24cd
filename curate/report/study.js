// The page of a study.
(() => {
  const colour = (name) => `var(--a${page.arms.findIndex((arm) => arm.name === name) % 8})`;
  const dot = (name) => make("span", { class: "dot", style: { background: colour(name) } });
  const word = (verdict) => make("span", { class: `word ${verdict}` }, verdict);
  const mean = (list) => (list.length ? sum(list) / list.length : null);
  const finite = (list) => list.filter((x) => x !== null && Number.isFinite(x));
  const pretty = (text) => text.split("`").map((part, i) => (i % 2 ? make("b", {}, part) : part)); // names stand in backticks
  const signed = (x, digits) => `${x > 0 ? "+" : x < 0 ? "−" : ""}${Math.abs(x).toFixed(digits)}`;

  // Trainings: at equal tokens, and at equal raw pool where the study has a target.
  const matchings = [...new Set(page.arms.flatMap((arm) => Object.keys(arm.training)))];
  const matchingWords = { tokens: "equal tokens", pool: "equal raw pool" };
  const first = (arm) => arm.training[matchings[0]] || {};
  const there = (arm) => arm.runs.filter((run) => run.status !== "missing");
  const trained = (arm, key, total) => (there(arm).length === arm.runs.length && arm.runs.length ? sum(arm.runs.map((run) => run[key])) : total(first(arm)));
  const trainingSeconds = (arm) => trained(arm, "seconds", (one) => one.seconds || 0);

  function drawHead() {
    $("output").textContent = page.output;
    const primary = page.comparisons.filter((one) => one.metric === page.primary);
    const counts = ["worse", "better", "undecided"].map((verdict) => [verdict, primary.filter((one) => one.verdict === verdict).length]).filter(([, n]) => n);
    $("lead").replaceChildren(...counts.flatMap(([verdict, n], i) => [i ? ", " : "", make("span", { class: verdict }, `${n} ${verdict}`)]), make("small", {}, ` against ${page.control}, by ${page.primary_words}${matchings.length > 1 ? `, ${matchings.map((m) => matchingWords[m]).join(" and ")}` : ""}`));
    $("question").replaceChildren(...pretty(page.question));
    fill("said", ...primary.map((one) => make("li", {}, word(one.verdict), make("span", {}, dot(one.arm), ...visible(one.sentence), one.not_inferior === null || one.low === null || one.verdict === "better" ? "" : one.not_inferior ? ` Its interval lies within the margin of ${one.margin}.` : ` Its interval goes beyond the margin of ${one.margin}.`))));
    const runs = page.arms.flatMap(there), control = first(page.arms[0]);
    const spent = sum(page.looks.map((look) => look.alpha)), seeds = [...new Set(page.comparisons.flatMap((one) => [one.seeds, one.control_seeds]))].sort((a, b) => a - b);
    const tiles = [["arms", String(page.arms.length), ""], ["seeds an arm", seeds.join(" to "), ""], ["parameters", control.parameters ? short(control.parameters) : "–", ""], ["tokens a run", control.tokens && control.tokens.length ? short(Math.max(...control.tokens)) : "–", ""],
      ["training", seconds(sum(page.arms.map(trainingSeconds))), `${count(runs.length || sum(page.arms.map((arm) => first(arm).runs || 0)))} runs`], ["looks", String(page.looks.length), `alpha spent ${plain(spent)}`]];
    $("tiles").replaceChildren(...tiles.map(([name, value, more]) => make("div", {}, make("dt", {}, name), make("dd", {}, `${value} `, make("small", {}, more)))));
  }

  // Verdicts: a strip for each arm on one scale for each metric; positions are percentages, so that nothing is distorted.
  function forest(group) {
    const pool = finite(group.flatMap((one) => [0, one.low, one.high, one.difference, ...(one.noise || []), ...one.per_seed.map(([, d]) => d)]));
    const margin = group[0].margin, falls = group[0].lower_is_better;
    const low0 = Math.min(...pool), high0 = Math.max(...pool, margin !== null && falls ? margin : -Infinity), span = high0 - low0 || 1;
    const low = low0 - span * 0.06, high = high0 + span * 0.06, at = (x) => `${(100 * (x - low)) / (high - low)}%`;
    const marks = ticks(low, high), digits = Math.max(0, ...marks.map((x) => (String(x.toPrecision(6)).replace(/0+$/, "").split(".")[1] || "").length));
    const title = (text) => draw("title", {}, document.createTextNode(text));
    const line = (x, name, tall) => draw("line", { x1: at(x), x2: at(x), y1: 0, y2: tall, class: name });
    const cells = [make("span", { class: "gap-cell" }), make("div", { class: "ends" }, make("span", {}, falls ? "← better" : "← worse"), make("span", {}, falls ? "worse →" : "better →")), make("span", { class: "gap-cell" }), make("span", { class: "gap-cell" })];
    for (const one of group) {
      const tall = 62, svg = draw("svg", { height: tall, role: "img", "aria-label": one.sentence, style: `--c: ${colour(one.arm)}` });
      for (const x of marks) if (x) svg.append(line(x, "grid-line", tall));
      svg.append(line(0, "zero", tall));
      if (margin !== null) svg.append(line(falls ? margin : -margin, "margin", tall));
      const open = one.low === null || one.high === null;
      if (one.difference !== null) {
        svg.append(draw("line", { class: `band${open ? " open" : ""}`, x1: open ? "0%" : at(one.low), x2: open ? "100%" : at(one.high), y1: 24, y2: 24 }, title(open ? "no interval: no alpha is left" : `${one.sentence}`)));
        if (one.noise) svg.append(draw("line", { class: "noise", x1: at(one.noise[0]), x2: at(one.noise[1]), y1: 36, y2: 36 }, title(`evaluation noise only: ${signed(one.noise[0], 4)} to ${signed(one.noise[1], 4)}`)));
        for (const [seed, d] of one.per_seed) svg.append(draw("circle", { class: "seed", cx: at(d), cy: 46, r: 3.6 }, title(`seed ${seed}: ${signed(d, 4)}`)));
        svg.append(draw("circle", { class: "estimate", cx: at(one.difference), cy: 24, r: 6.5 }, title(`${signed(one.difference, 4)}`)));
      }
      const n = one.seeds === one.control_seeds ? `${one.seeds} seeds` : `${one.seeds} seeds, ${one.control_seeds} of the control`;
      cells.push(make("div", { class: "label" }, dot(one.arm), one.arm, make("small", {}, matchings.length > 1 ? `${matchingWords[one.matching]}, ${n}` : n)), make("div", { class: "strip" }, svg),
        make("div", { class: "figures" }, make("b", {}, one.difference === null ? "–" : signed(one.difference, 3)), make("small", {}, open ? (one.note ? "" : "no interval") : `${signed(one.low, 3)} to ${signed(one.high, 3)}`), one.note ? make("small", { class: "why" }, ...visible(one.note)) : null, make("small", {}, one.smallest_detectable === null || one.difference === null ? "" : `could see ${one.smallest_detectable.toFixed(3)}`)), word(one.verdict));
    }
    const axis = draw("svg", { height: 20, class: "axis-row" });
    for (const x of marks) { const text = draw("text", { x: at(x), y: 13, "text-anchor": "middle" }); text.textContent = x === 0 ? "0" : signed(x, digits); axis.append(text); }
    cells.push(make("span", { class: "gap-cell" }), make("div", { class: "strip" }, axis), make("span", { class: "gap-cell" }), make("span", { class: "gap-cell" }));
    const of = group.find((one) => one.control_mean !== null);
    return make("div", { class: "metric", "data-metric": group[0].metric }, make("h3", {}, group[0].words, make("small", {}, [group[0].metric === page.primary ? "decides" : "", of ? `${page.control} has ${of.control_mean.toFixed(3)}` : ""].filter((x) => x).join(" · "))), make("div", { class: "forest" }, ...cells));
  }
  function drawVerdicts() {
    const metrics = [...new Set(page.comparisons.map((one) => one.metric))];
    $("verdicts-note").textContent = `Arm minus control. Better and worse mean that the interval excludes 0; intervals are over seeds and corrected for ${count(page.comparisons.length)} ${page.comparisons.length === 1 ? "comparison" : "comparisons"} (Holm) and for looks.`;
    $("metrics").replaceChildren(...metrics.map((metric) => forest(page.comparisons.filter((one) => one.metric === metric))));
    const key = (...shapes) => draw("svg", { style: "--c: var(--soft)" }, ...shapes);
    const hints = [[key(draw("line", { class: "band", x1: 2, x2: 24, y1: 6, y2: 6 }), draw("circle", { class: "estimate", cx: 13, cy: 6, r: 5 })), "difference and its interval"]];
    if (page.comparisons.some((one) => one.per_seed.length)) hints.push([key(draw("circle", { class: "seed", cx: 9, cy: 6, r: 3.6 }), draw("circle", { class: "seed", cx: 18, cy: 6, r: 3.6 })), "one seed"]);
    if (page.comparisons.some((one) => one.noise)) hints.push([key(draw("line", { class: "noise", x1: 2, x2: 24, y1: 6, y2: 6 })), "evaluation noise only: other items, the same two models; no verdict"]);
    if (page.margin !== null) hints.push([key(draw("line", { class: "margin", x1: 13, x2: 13, y1: 0, y2: 12 })), `margin of ${page.margin}: what would matter`]);
    $("metrics").append(make("div", { class: "hint-row" }, ...hints.map(([shape, text]) => make("span", {}, shape, text))));
  }

  // Loss over tokens, drawn to the width there is; the steep start is cut off above.
  const hidden = new Set();
  let look = null; // tokens that the cross stands at
  const curves = () => page.arms.filter((arm) => !hidden.has(arm.name)).flatMap((arm) => arm.runs.filter((run) => run.at.length).map((run) => ({ arm: arm.name, run })));
  const nearest = (at, x) => at.reduce((best, y, i) => (Math.abs(y - x) < Math.abs(at[best] - x) ? i : best), 0);
  function drawLoss() {
    const all = page.arms.flatMap((arm) => arm.runs.filter((run) => run.at.length));
    if (!all.length) { $("loss").hidden = true; return; }
    const gone = page.arms.flatMap((arm) => arm.runs.filter((run) => run.status === "diverged").map((run) => `${arm.name} seed ${run.seed} diverged: ${run.reason}`));
    $("loss-note").textContent = `Nats per token of each arm's own text, a line for each seed: an arm whose text is easy to guess has a low loss and may still be the worse one.${page.arms.some((arm) => arm.runs.some((run) => run.matching === "pool")) ? " Dashed: at equal raw pool, some of it read again." : ""} ${gone.join(" ")}`;
    fill("loss-arms", ...page.arms.map((arm) => make("button", { type: "button", "aria-pressed": String(!hidden.has(arm.name)), title: "Show or hide", on: { click: () => { hidden[hidden.has(arm.name) ? "delete" : "add"](arm.name); drawLoss(); } } }, dot(arm.name), arm.name)));
    const wide = Math.max(280, $("chart").clientWidth), tall = Math.min(380, Math.max(240, wide * 0.36)), left = 40, bottom = tall - 26;
    const most = Math.max(...all.map((run) => run.at[run.at.length - 1])), shown = all.flatMap((run) => run.loss.filter((_, i) => run.at[i] >= most * 0.04));
    const lows = Math.min(...all.flatMap((run) => run.loss)), highs = Math.max(...(shown.length ? shown : all.flatMap((run) => run.loss))), pad = (highs - lows || 1) * 0.05, low = lows - pad, high = highs + pad;
    const x = (tokens) => left + ((wide - left - 8) * tokens) / most, y = (loss) => 6 + ((bottom - 6) * (high - loss)) / (high - low);
    const svg = draw("svg", { width: wide, height: tall }), clip = draw("clipPath", { id: "frame" }, draw("rect", { x: left, y: 0, width: wide - left, height: bottom }));
    svg.append(clip);
    const label = (text, at, up, anchor) => { const node = draw("text", { x: at, y: up, "text-anchor": anchor }); node.textContent = text; svg.append(node); };
    for (const loss of ticks(low, high)) { svg.append(draw("line", { class: "axis", x1: left, x2: wide, y1: y(loss), y2: y(loss) })); label(plain(loss), left - 8, y(loss) + 4, "end"); }
    for (const tokens of ticks(0, most)) label(tokens ? short(tokens) : "0 tokens", x(tokens), tall - 8, tokens ? "middle" : "start");
    for (const { arm, run } of curves()) {
      svg.append(draw("polyline", { class: `run ${run.matching}`, style: `stroke: ${colour(arm)}`, "clip-path": "url(#frame)", points: run.at.map((t, i) => `${x(t).toFixed(1)},${y(run.loss[i]).toFixed(1)}`).join(" ") }));
      if (run.status === "diverged") { const i = run.at.length - 1, mark = draw("text", { class: "ended", x: x(run.at[i]) - 4, y: Math.max(14, y(run.loss[i]) + 4) }); mark.textContent = "✕ diverged"; svg.append(mark); }
    }
    const cross = draw("g", {});
    svg.append(cross);
    const tip = make("div", { class: "tip", hidden: true });
    $("chart").replaceChildren(svg, tip);
    const show = () => {
      tip.hidden = look === null;
      cross.replaceChildren();
      if (look === null) return;
      const here = curves().filter(({ run }) => look <= run.at[run.at.length - 1] * 1.02).map(({ arm, run }) => ({ arm, run, i: nearest(run.at, look) })).sort((a, b) => b.run.loss[b.i] - a.run.loss[a.i]);
      cross.append(draw("line", { class: "cross", x1: x(look), x2: x(look), y1: 0, y2: bottom }), ...here.filter((one) => one.run.loss[one.i] <= high).map((one) => draw("circle", { cx: x(one.run.at[one.i]), cy: y(one.run.loss[one.i]), r: 3.5, style: `fill: ${colour(one.arm)}` })));
      tip.replaceChildren(make("b", {}, `${short(look)} tokens`), ...here.slice(0, 14).map((one) => make("div", {}, dot(one.arm), make("span", {}, `${one.arm}, seed ${one.run.seed}${one.run.matching === "pool" ? ", equal pool" : ""}`), make("span", {}, one.run.loss[one.i].toFixed(3)))));
      tip.style.left = x(look) > wide / 2 ? "auto" : `${x(look) + 14}px`;
      tip.style.right = x(look) > wide / 2 ? `${wide - x(look) + 14}px` : "auto";
    };
    const move = (tokens) => { look = tokens === null ? null : Math.min(most, Math.max(0, tokens)); show(); };
    $("chart").onpointermove = (event) => move(((event.clientX - $("chart").getBoundingClientRect().left - left) * most) / (wide - left - 8));
    $("chart").onpointerleave = () => move(null);
    $("chart").onblur = () => move(null);
    $("chart").onkeydown = (event) => { const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key]; if (by) { move((look === null ? most / 2 : look) + (by * most) / 40); event.preventDefault(); } };
    show();
  }

  const range = (list, format) => { const has = finite(list); if (!has.length) return "–"; const [a, b] = [format(Math.min(...has)), format(Math.max(...has))]; return a === b ? a : `${a} to ${b}`; };
  const table = (heads, rows) => make("table", { class: "data" }, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", {}, head)))), make("tbody", {}, ...rows));
  const named = (arm, more) => { const small = [arm.is_control ? "the control" : "", more].filter((x) => x).join(", "); return make("td", {}, dot(arm.name), arm.name, small ? make("small", { style: { paddingLeft: "18px" } }, small) : null); };
  const cell = (text, kind) => make("td", { class: kind || "" }, text);
  const read = (arm, matching, key) => { // of the runs' own results; else of study.json
    const runs = arm.runs.filter((run) => run.matching === matching && run.data[key] !== undefined);
    if (!runs.length && matching !== matchings[0] && !arm.runs.some((run) => run.matching === matching)) return read(arm, matchings[0], key); // its runs are both matchings'
    return runs.length ? runs.map((run) => run.data[key]) : (arm.training[matching] || {})[key] || [];
  };
  const epochs = (arm, matching) => read(arm, matching, "epochs").map((one) => (typeof one === "object" ? Math.max(...Object.values(one)) : one));
  function drawRead() {
    const sets = [...new Set(page.arms.flatMap((arm) => arm.runs.flatMap((run) => Object.keys(run.data.shares || {}))))], mixed = sets.length > 1, pooled = page.arms.some((arm) => arm.pool);
    const percent = (x) => `${(100 * x).toFixed(1)}%`, times = (x) => x.toFixed(2);
    const heads = ["arm", "tokens read", "in the loss", "unique", "in its corpus", "epochs", "packed full", "discarded", ...(pooled ? ["of the raw pool", "epochs of the large run"] : []), ...(mixed ? sets.map((name) => `share of ${name}`) : [])];
    const row = (arm, m) => make("tr", {}, named(arm, matchings.length > 1 ? matchingWords[m] : ""), cell(range((arm.training[m] || {}).tokens || [], short)), cell(range(read(arm, m, "loss_tokens"), short)), cell(range(read(arm, m, "unique_tokens"), short)),
      make("td", {}, arm.corpus.tokens ? short(arm.corpus.tokens) : "–", arm.corpus.left_out ? make("small", {}, `${count(arm.corpus.left_out)} documents left out`) : null), cell(range(epochs(arm, m), times)), cell(range(read(arm, m, "fill_rate"), percent)), cell(range(read(arm, m, "discarded_tokens"), count)),
      ...(pooled ? [cell(arm.pool ? percent(arm.pool.kept) : "–"), cell(arm.pool && arm.pool.epochs !== null ? times(arm.pool.epochs) : "–")] : []), ...(mixed ? sets.map((name) => cell(range(arm.runs.filter((run) => run.matching === m).map((run) => (run.data.shares || {})[name] ?? null), percent))) : []));
    $("read-rows").replaceChildren(table(heads, page.arms.flatMap((arm) => matchings.filter((m) => arm.training[m]).map((m) => row(arm, m)))));
    const again = page.arms.filter((arm) => matchings.some((m) => epochs(arm, m).some((n) => n > 1))).map((arm) => arm.name);
    $("read-note").textContent = `${again.length ? `Text was read more than once by ${again.join(", ")}.` : "No arm read any text twice: epochs are below 1."}${page.arms.some((arm) => arm.corpus.left_out) ? " Documents near the held-out sets are left out of every arm." : ""}`;
  }

  function drawCorpora() {
    const widest = Math.max(1, ...page.arms.map((arm) => arm.corpus.rows_in));
    fill("cards", ...page.arms.map((arm) => {
      const corpus = arm.corpus;
      const head = [make("h3", {}, dot(arm.name), arm.name, arm.is_control ? make("small", {}, "control") : null), make("ul", { class: "changes" }, ...corpus.changes.map((text) => make("li", {}, ...visible(text))), !corpus.changes.length && !arm.is_control && corpus.taken && corpus.taken.of_control ? make("li", {}, "the recipe of the control") : null)];
      if (!corpus.funnel.length) return make("div", { class: "card" }, ...head, make("p", { class: "note" }, ...visible(corpus.note || "Its corpus is not there.")));
      const bar = (left, dropped) => make("div", { class: "track" }, make("div", { class: "k", style: { width: `${(100 * left) / widest}%` }, title: `${count(left)} rows left` }), dropped ? make("div", { class: "lost", style: { width: `${(100 * dropped) / widest}%` }, title: `${count(dropped)} rows dropped` }) : null);
      return make("div", { class: "card", "data-arm": arm.name }, ...head, make("div", { class: "total" }, count(corpus.rows_kept), make("small", {}, `of ${count(corpus.rows_in)} rows kept, ${bytes(corpus.text_bytes)}`)),
        make("div", { class: "mini" }, make("span", { class: "step" }, "rows in"), bar(corpus.rows_in, 0), make("span", { class: "num" }, count(corpus.rows_in)),
          ...corpus.funnel.flatMap((step) => (step.dropped || step.where ? [make("span", { class: "step", title: step.where || step.name }, step.where && step.name === "select" ? step.where : step.name), bar(step.left, step.dropped), make("span", { class: "num" }, step.dropped ? make("span", { class: "loss" }, `−${count(step.dropped)}`) : "0")] : [make("span", { class: "step idle" }, step.name), make("span", {}), make("span", {})]))));
    }));
  }

  // What an arm took away: the control's documents by their fate, and ten of them.
  const others = page.arms.filter((arm) => arm.corpus.taken);
  const reading = { arm: 0, document: 0 };
  const fateColours = { same: "var(--kept)", changed: "var(--s1)", dropped: "var(--drop)", quarantined: "var(--s2)", absent: "var(--other)" };
  const fateWords = (group) => (group.fate === "changed" ? "kept with another text" : group.fate === "absent" ? "never came to it" : `${group.fate} by ${group.stage}: ${group.reason.replaceAll("_", " ")}`);
  const opening = (one) => one.pieces.filter(([kind]) => kind === "same" || kind === "kept").map(([, text]) => text).join("").trim().replace(/\s+/g, " ").slice(0, 70) || one.id;
  function drawTaken() {
    if (!others.length) { $("taken").hidden = true; return; }
    fill("taken-tabs", ...others.map((arm, i) => make("button", { role: "tab", type: "button", "aria-selected": String(i === reading.arm), on: { click: () => { Object.assign(reading, { arm: i, document: 0 }); drawTaken(); } } }, dot(arm.name), arm.name)));
    const { name, corpus: { taken } } = others[reading.arm];
    const fates = [[taken.of_control ? "kept, the same text" : "kept", taken.same, fateColours.same], ...taken.groups.map((group) => [fateWords(group), group.rows, fateColours[group.fate]])];
    $("fates").replaceChildren(...fates.map(([text, rows, tint]) => make("div", { style: { flex: `${rows} 1 0`, background: tint }, title: `${text}: ${count(rows)} rows` })));
    $("fates-legend").replaceChildren(...fates.map(([text, rows, tint]) => make("li", {}, make("i", { style: { background: tint } }), ...visible(`${text} `), make("b", {}, count(rows)), ` ${share(rows, taken.rows)}`)), ...(taken.added ? [make("li", {}, `${name} alone keeps `, make("b", {}, count(taken.added)), " more")] : []));
    $("taken-note").textContent = (taken.of_control ? `The ${count(taken.rows)} documents that ${page.control} keeps, by what ${name} did with them.` : `Documents cannot be matched with those of ${page.control}: shown are the ${count(taken.rows)} that came to the recipe of ${name}, by what it did with them.`) + (taken.examples.length ? ` ${taken.examples.length} of those it dropped or changed can be read below, drawn by a hash of their id.` : "");
    $("twins").hidden = !taken.examples.length;
    fill("twins-list", ...taken.groups.flatMap((group, g) => {
      const own = taken.examples.map((one, i) => [one, i]).filter(([one]) => one.group === g);
      return own.length ? [make("h4", {}, ...visible(fateWords(group))), ...own.map(([one, i]) => make("button", { class: "one", type: "button", "aria-pressed": String(i === reading.document), on: { click: () => { reading.document = i; drawTaken(); } } }, make("b", { dir: "auto" }, ...visible(opening(one))), make("small", {}, ...visible([one.source, `${count(one.chars)} characters`].filter((x) => x).join(" · ")))))] : [];
    }));
    const one = taken.examples[reading.document];
    if (!one) return;
    const group = taken.groups[one.group], changed = group.fate === "changed";
    $("twins-sides").replaceChildren(make("div", {}, make("span", { class: "who" }, taken.of_control ? page.control : "input"), taken.of_control ? " keeps it" : "", make("span", { class: "mono" }, ...visible(one.id))), make("div", {}, make("span", { class: "who out" }, name), ...visible(changed ? " keeps another text" : ` ${fateWords(group)}`)));
    const more = one.pieces.filter(([kind]) => kind === "rest").map(([, n]) => make("span", { class: "more" }, `\n… ${count(Number(n))} more characters`));
    $("twins-text").replaceChildren(...(changed ? hunks(one.pieces) : [make("div", { class: "alone" }, make("p", { dir: "auto" }, ...(one.chars ? one.pieces.filter(([kind]) => kind === "same").flatMap(([, text]) => visible(text)) : [make("span", { class: "more" }, "It has no text, or that was not kept (output.dropped).")]), ...more))]));
    $("twins-text").scrollTop = 0;
  }

  function drawCost() {
    const corpusSeconds = (arm) => (arm.cost ? sum(Object.values(arm.cost.cpu_seconds)) : arm.corpus.seconds.corpus || 0);
    const parts = (arm) => [["corpus", corpusSeconds(arm), "var(--s2)"], ["tokenizing", arm.corpus.seconds.tokens || 0, "var(--s1)"], ["training", trainingSeconds(arm), "var(--s3)"]];
    const most = Math.max(1e-9, ...page.arms.map((arm) => sum(parts(arm).map(([, s]) => s)))), time = (s) => (s ? seconds(s) : "–");
    const flops = (arm) => (arm.cost ? sum(Object.values(arm.cost.flops)) : 0), power = (x) => (x ? `${short(x)}FLOPs` : "–");
    const modelled = page.arms.some(flops), aimed = page.arms.some((arm) => arm.cost && arm.cost.target_cpu_hours !== null);
    const longest = (arm) => Object.entries(arm.cost ? arm.cost.cpu_seconds : {}).sort((a, b) => b[1] - a[1]).filter(([, s]) => s > 0);
    const rows = page.arms.map((arm) => {
      const [corpus, tokens, training] = parts(arm).map(([, s]) => s), total = trained(arm, "tokens", (one) => sum(one.tokens || [])), cost = arm.cost;
      return make("tr", {}, named(arm), make("td", { title: longest(arm).map(([step, s]) => `${step} ${seconds(s)}`).join(", ") }, time(corpus), longest(arm).length ? make("small", {}, ...visible(`${longest(arm)[0][0]} ${seconds(longest(arm)[0][1])}`)) : null), cell(time(tokens)), cell(time(training)), cell(total ? short(total) : "–"), cell(total && training ? `${short(total / training)}/s` : "–"), ...(modelled ? [cell(power(flops(arm)))] : []),
        ...(aimed ? [make("td", {}, cost && cost.target_cpu_hours !== null ? `${cost.target_cpu_hours < 10 ? cost.target_cpu_hours.toFixed(1) : count(Math.round(cost.target_cpu_hours))} CPU hours` : "–", cost && cost.target_flops ? make("small", {}, `${cost.target_flops.toExponential(1)} FLOPs of models, ${(100 * cost.target_share).toPrecision(2)}% of training`) : null)] : []),
        make("td", { class: "wide" }, make("div", { class: "track" }, ...parts(arm).map(([name, s, tint]) => make("div", { style: { width: `${(100 * s) / most}%`, background: tint }, title: `${name}: ${seconds(s)}` })))));
    });
    $("cost-note").textContent = `Seconds of a processor for making the corpus, with its longest step, and its tokens, once; seconds of training over all runs of an arm.${aimed ? " At the target, the same curation reads the whole raw pool." : ""}`;
    $("cost-rows").replaceChildren(table(["arm", "corpus", "tokenizing", "training", "tokens trained on", "training speed", ...(modelled ? ["models"] : []), ...(aimed ? ["curation at the target"] : []), ""], rows), make("ul", { class: "legend" }, ...parts(page.arms[0]).map(([name, , tint]) => make("li", {}, make("i", { style: { background: tint } }), name))));
  }

  function drawSure() {
    const blocks = [make("div", {}, make("h3", {}, "How much seeds vary"), table(["metric", "deviation", "degrees of freedom"], page.spread.map((one) => make("tr", {}, cell(matchings.length > 1 ? `${one.words}, ${matchingWords[one.matching]}` : one.words), cell(one.df ? plain(one.deviation) : "–"), cell(count(one.df)))))),
      make("div", {}, make("h3", {}, "Looks"), table(["look", "seeds", "alpha"], page.looks.map((look, i) => make("tr", {}, cell(`${i + 1}`), cell(`${look.seeds} of ${look.planned}`), cell(plain(look.alpha))))), make("p", { class: "note" }, `Every time verdicts are made is a look; together they spend ${plain(sum(page.looks.map((look) => look.alpha)))}.`))];
    blocks.push(make("div", {}, make("h3", {}, "Notes"), page.notes.length ? make("ul", {}, ...page.notes.map((note) => make("li", {}, ...visible(note)))) : make("p", {}, "None.")));
    const value = (x) => cell(x === null ? "–" : plain(x));
    if (Object.keys(page.tasks).length) blocks.push(make("div", { class: "across" }, make("h3", {}, "What the tasks can tell at this size"), make("div", { class: "scroll" }, table(["metric", "monotone", "signal over noise", "above chance", "ordering", ""], Object.entries(page.tasks).map(([name, one]) => make("tr", {}, cell(name), value(one.monotonicity), value(one.snr), value(one.above_chance), value(one.ordering), make("td", {}, one.why_not.length ? make("span", { class: "word" }, `decides nothing: ${one.why_not.join(", ")}`) : make("span", { class: "word better" }, "may decide")))))), make("p", { class: "note" }, "Judged on runs of the control; a task that fails a test decides nothing.")));
    if (page.common && Object.keys(page.common.left_out).length) blocks.push(make("div", { class: "across" }, make("h3", {}, "Items that an arm has seen"), make("div", { class: "scroll" }, table(["task", ...page.arms.map((arm) => `in ${arm.name}`), "left out for all"], Object.entries(page.common.left_out).map(([task, n]) => make("tr", {}, cell(task), ...page.arms.map((arm) => cell(count((page.common.contaminated[arm.name] || {})[task] || 0))), cell(count(n)))))),
      ...(Object.keys(page.common.full).length ? [make("h3", { class: "below" }, "Scores on all items, with those"), make("div", { class: "scroll" }, table(["metric", ...page.arms.map((arm) => arm.name)], [...new Set(page.arms.flatMap((arm) => Object.keys(page.common.full[arm.name] || {})))].map((metric) => make("tr", {}, cell(metric), ...page.arms.map((arm) => value((page.common.full[arm.name] || {})[metric] ?? null))))))] : [])));
    $("facts").replaceChildren(...blocks);
    $("foot").textContent = `Study ${page.title}. Every number is of study.json, the runs' logs and the corpora's journals; the page asks no network for anything.`;
  }

  drawHead();
  drawVerdicts();
  drawLoss();
  drawRead();
  drawCorpora();
  drawTaken();
  drawCost();
  drawSure();
  new ResizeObserver(() => drawLoss()).observe($("loss"));
  for (const link of document.querySelectorAll(".bar nav a")) link.hidden = document.querySelector(link.getAttribute("href")).hidden;
})();
