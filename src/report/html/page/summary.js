// The head of the page, and for each model its ranking and the differences between variants.

const MARKS = { improved: "▲", unchanged: "=", regressed: "▼", inconclusive: "≈" };

const METHODS = {
  tango: "Tango's score interval, McNemar's mid-p",
  jackknife: "delete-one-unit jackknife",
  identical: "equal requests, so no difference",
  too_few_units: "fewer than 10 units: no interval",
  not_comparable: "other targets or tokens: not compared",
  no_pairs: "no example that both scored",
};

/** The head: what was run, when, with what. */
function head(state) {
  const run = RUNS[state.run];
  const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
  const short = (digest) => h("code", { title: plain(digest) }, plain(digest).slice(0, 12));
  const digests = [
    ...run.digests,
    ...run.models.map((it) => [`model ${it.name}`, it.digest]),
    ...run.variants.map((it) => [`variant ${it.name}`, it.template_digest]),
  ];
  const started = run.started.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC");
  return h("header", { class: "head" },
    h("p", { class: "kind" }, "harness report"),
    h("h1", {}, plain(run.experiment)),
    h("dl", { class: "facts" },
      fact("run", run.run),
      fact("status", h("span", { class: `status-${run.status}` }, run.status)),
      fact("started", plain(started)),
      fact(run.models.length === 1 ? "model" : "models", run.models.map((it) => plain(it.name)).join(", ")),
      fact("examples", count(run.n_examples)),
      fact("variants", count(run.variants.length)),
      fact("primary metric", run.metrics[run.primary].name)),
    run.is_finished ? null : h("p", { class: "banner", role: "note" },
      h("strong", {}, `This run is ${run.status}. `),
      "It shows values, but no intervals and no verdicts: what is missing could change both."),
    h("details", { class: "print-open" },
      h("summary", {}, "Versions and digests"),
      h("dl", { class: "facts" },
        fact("harness", plain(run.harness_version)),
        fact("device", plain(run.device)),
        fact("seed", String(run.seed)),
        run.models.map((it) => fact(`source of ${plain(it.name)}`, plain(it.source))),
        run.models.map((it) => fact(`arithmetic of ${plain(it.name)}`, plain(it.numerics))),
        digests.map(([name, digest]) => fact(plain(name), short(digest))))));
}

/** A scale from numbers to percent of a chart's width. */
function scaleOf(values, isAroundZero) {
  const finite = values.filter((it) => it !== null && Number.isFinite(it));
  if (isAroundZero) finite.push(0);
  let low = Math.min(...finite);
  let high = Math.max(...finite);
  if (finite.length === 0) [low, high] = [0, 1];
  if (!(high > low)) [low, high] = [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  const pad = (high - low) * 0.08;
  [low, high] = [low - pad, high + pad];
  return { low, high, at: (it) => `${(100 * (it - low)) / (high - low)}%` };
}

/** A value with its interval on a scale; the numbers stand beside it. */
function intervalChart(scale, it, { zero = false, margin = null } = {}) {
  const marks = [];
  if (margin) {
    const [from, to] = [Math.max(-margin, scale.low), Math.min(margin, scale.high)];
    const width = `${(100 * (to - from)) / (scale.high - scale.low)}%`;
    marks.push(s("rect", { class: "margin", x: scale.at(from), width, y: "0", height: "26" }));
  }
  if (zero) marks.push(s("line", { class: "zero", x1: scale.at(0), x2: scale.at(0), y1: "0", y2: "26" }));
  const [low, high, value] = [it.low, it.high, it.value].map(number);
  if (low !== null && high !== null) {
    marks.push(s("line", { class: "whisker", x1: scale.at(low), x2: scale.at(high), y1: "13", y2: "13" }));
    for (const end of [low, high]) {
      marks.push(s("line", { class: "whisker", x1: scale.at(end), x2: scale.at(end), y1: "8", y2: "18" }));
    }
  }
  if (value !== null && Number.isFinite(value)) {
    marks.push(s("circle", { class: "dot", cx: scale.at(value), cy: "13", r: "4.5" }));
  }
  return s("svg", { class: "interval", height: "26", width: "100%", "aria-hidden": "true" }, marks);
}

/** Round numbers below the charts of a table. */
function axis(scale, unit) {
  const factor = unit === "%" ? 100 : 1;
  const { at, decimals } = ticks(scale.low * factor, scale.high * factor, 6);
  const marks = at.map((it) => [
    s("line", { class: "tick", x1: scale.at(it / factor), x2: scale.at(it / factor), y1: "0", y2: "4" }),
    s("text", { x: scale.at(it / factor), y: "17", "text-anchor": "middle" }, fixed(it, decimals)),
  ]);
  return s("svg", { class: "axis", height: "20", width: "100%", "aria-hidden": "true" }, marks);
}

/** `[80.4,  92.3]`, padded so that the digits of a column stand under each other. */
function intervals(list) {
  const width = (key) => Math.max(0, ...list.map((it) => it?.[key]?.length ?? 0));
  const [low, high] = [width("low_text"), width("high_text")];
  const pad = (it, to) => it.padStart(to, "\u2007");
  return list.map((it) => (it?.low_text ? `[${pad(it.low_text, low)}, ${pad(it.high_text, high)}]` : NOTHING));
}

/** What a metric is called in a header, with direction and unit. */
function metricHeader(metric, unit) {
  return [`${metric.name} ${metric.is_higher_better ? "↑" : "↓"}`, h("span", { class: "unit" }, unit)];
}

/** Variants of a model from best to worst by the chosen metric. */
function order(state, model) {
  const run = RUNS[state.run];
  const byPrimary = model.ranking.map((it) => it.variant);
  if (state.metric === run.primary) return byPrimary;
  const sign = run.metrics[state.metric].is_higher_better ? 1 : -1;
  const key = (it) => {
    const of = model.variants[it].estimates[state.metric];
    return of ? sign * number(of.value) : -Infinity;
  };
  return [...byPrimary].sort((a, b) => key(b) - key(a) || 0);
}

function ranking(state, model) {
  const run = RUNS[state.run];
  const metric = run.metrics[state.metric];
  const isPrimary = state.metric === run.primary;
  const rows = order(state, model).map((it) => ({ variant: it, of: model.variants[it] }));
  const estimates = rows.map((it) => it.of.estimates[state.metric]);
  const scale = scaleOf(estimates.flatMap((it) => (it ? [it.value, it.low, it.high].map(number) : [])), false);
  const shownIntervals = intervals(estimates);
  const hasMarks = isPrimary && model.ranking.some((it) => it.mark !== "");
  const has = (key) => rows.some((it) => it.of[key] !== null);
  const header = [
    hasMarks ? h("th", { class: "mark", scope: "col" }, h("span", { class: "hidden" }, "standing")) : null,
    h("th", { scope: "col" }, "variant"),
    h("th", { class: "chart" }, h("span", { class: "hidden" }, "chart")),
    nh(metricHeader(metric, metric.unit)), nh("95 %", h("span", { class: "unit" }, "interval")),
    nh("n"), nh("unscored"),
    has("tokens_per_prompt") ? nh("tokens", h("span", { class: "unit" }, "per prompt")) : null,
    has("time") ? nh("time") : null,
  ];
  const row = ({ variant, of }, i) => {
    const placed = model.ranking.find((it) => it.variant === variant);
    const estimate = estimates[i];
    const why = of.unscored.map(([status, n]) => `${count(n)} ${status}`).join(", ");
    return h("tr", {},
      hasMarks ? h("td", { class: "mark", title: placed.standing.replace("_", " ") }, placed.mark || "\u00a0",
        h("span", { class: "hidden" }, placed.standing.replace("_", " "))) : null,
      h("th", { scope: "row" }, plain(run.variants[variant].name)),
      h("td", { class: "chart" }, estimate ? intervalChart(scale, estimate) : null),
      n(estimate?.text ?? NOTHING), n(shownIntervals[i]), n(count(estimate?.n ?? 0)),
      h("td", { class: "n", title: why || null }, count(of.n_unscored)),
      has("tokens_per_prompt") ? n(of.tokens_per_prompt ?? NOTHING) : null,
      has("time") ? n(of.time ?? NOTHING) : null);
  };
  const foot = h("tr", { class: "foot", "aria-hidden": "true" }, hasMarks ? h("td", {}) : null, h("td", {}),
    h("td", { class: "chart" }, axis(scale, metric.unit)), h("td", { colspan: "6" }));
  const body = [...rows.map(row), foot];
  return table(`Ranking of the variants on ${plain(model.name)} by ${metric.name}`, header.filter(Boolean), body,
    { class: "ranking" });
}

function differences(state, model) {
  const run = RUNS[state.run];
  const metric = run.metrics[state.metric];
  const list = model.comparisons.map((it) => ({ ...it, value: it.gain })).filter((it) => it.metric === state.metric)
    .sort((a, b) => (number(b.gain) ?? -Infinity) - (number(a.gain) ?? -Infinity) || 0);
  if (list.length === 0) {
    const why = !run.is_finished ? "An unfinished run has no differences." : metric.is_descriptive
      ? `${metric.name} only describes: it has no interval and is not compared.`
      : "There is nothing to compare.";
    return h("p", { class: "quiet" }, why);
  }
  const margin = list[0].margin;
  const near = margin === null ? [] : [-margin, margin];
  const scale = scaleOf([...list.flatMap((it) => [it.gain, it.low, it.high].map(number)), ...near], true);
  const shownIntervals = intervals(list);
  const noun = run.sampling_unit;
  const header = [
    h("th", { scope: "col" }, "gain of"), h("th", { scope: "col" }, "over"),
    h("th", { class: "chart" }, h("span", { class: "hidden" }, "chart")),
    nh("gain", h("span", { class: "unit" }, metric.difference_unit)), nh("95 %", h("span", { class: "unit" }, "interval")),
    nh("p", h("span", { class: "unit" }, "Holm")), h("th", { scope: "col" }, "verdict"),
    nh("pairs"), nh("unpaired"), h("th", { scope: "col" }, "method"),
    h("th", { scope: "col", class: "action" }, h("span", { class: "hidden" }, "look closer")),
  ];
  const row = (it, i) => {
    const names = [it.candidate, it.reference].map((of) => plain(run.variants[of].name));
    const isCompared = it.gain !== null;
    const verdict = isCompared ? `${MARKS[it.verdict] ?? ""} ${it.verdict ?? NOTHING}` : "? not compared";
    return h("tr", {},
      h("th", { scope: "row" }, names[0]), h("td", {}, names[1]),
      h("td", { class: "chart" }, isCompared ? intervalChart(scale, it, { zero: true, margin: it.margin }) : null),
      n(it.text ?? NOTHING), n(shownIntervals[i]),
      h("td", { class: "n", title: it.p ? `before Holm: ${it.p}` : null }, it.p_adjusted ?? NOTHING),
      h("td", { class: `verdict ${isCompared ? it.verdict : ""}` }, verdict),
      n(count(it.n_pairs)), n(count(it.n_unpaired)),
      h("td", { class: "method", title: METHODS[it.method] ?? null }, it.method),
      h("td", { class: "action" }, h("button", {
        type: "button", class: "quiet",
        "aria-label": `Show the examples behind ${names[0]} over ${names[1]}`,
        onclick: () => state.choosePair(model, it),
      }, "examples")));
  };
  const foot = h("tr", { class: "foot", "aria-hidden": "true" }, h("td", { colspan: "2" }),
    h("td", { class: "chart" }, axis(scale, metric.unit)), h("td", { colspan: "8" }));
  const methods = [...new Set(list.map((it) => it.method))].filter((it) => METHODS[it]);
  const sayMargin = margin === null ? null
    : ` The band around 0 is the margin, ${run.margin_text}: a difference whose 90 % interval lies inside it is unchanged.`;
  return [
    table(`Differences between variants on ${plain(model.name)} by ${metric.name}`, header, [...list.map(row), foot],
      { class: "differences" }),
    h("p", { class: "quiet" },
      `A gain is positive where the first variant is better; pairs are ${noun}s that both scored. `,
      methods.map((it) => `${it}: ${METHODS[it]}.`).join(" "), sayMargin),
  ];
}

/** Labels whose priors stand in a table. */
const MAX_LABELS = 20;

/** What each variant's prompt answers to an input that says nothing. */
function labelPriors(state, model) {
  const run = RUNS[state.run];
  const rows = order(state, model).map((it) => ({ variant: it, priors: new Map(model.variants[it].label_prior) }));
  const labels = [...new Set(rows.flatMap((it) => [...it.priors.keys()]))];
  if (labels.length === 0) return null;
  const shown = labels.slice(0, MAX_LABELS);
  const left = labels.length - shown.length;
  const header = [h("th", { scope: "col" }, "variant"), ...shown.map((it) => nh(inline(cut(it, 80)), h("span", { class: "unit" }, "%")))];
  const row = (it) => h("tr", {}, h("th", { scope: "row" }, plain(run.variants[it.variant].name)),
    shown.map((label) => n(it.priors.get(label) ?? NOTHING)));
  return [
    h("h3", {}, "Label priors"),
    table(`Label priors of the variants on ${plain(model.name)}`, header, rows.map(row), { class: "priors" }),
    h("p", { class: "quiet" }, "The probability of each label after the prompt with an input that says nothing.",
      left > 0 ? ` ${counted(left, "more label")} left out.` : null),
  ];
}

/** Ranking and differences of one model. */
function modelSection(state, model) {
  const run = RUNS[state.run];
  const metric = run.metrics[state.metric];
  const isPrimary = state.metric === run.primary;
  const primary = run.metrics[run.primary].name;
  const tag = isPrimary ? h("span", { class: "tag" }, "primary") : h("span", { class: "tag warn" },
    metric.is_descriptive ? "descriptive" : "exploratory");
  return h("section", { class: "model", "aria-label": `Results on ${plain(model.name)}` },
    h("h2", {}, run.models.length === 1 ? "Ranking" : `Ranking on ${plain(model.name)}`, " ",
      h("span", { class: "of" }, `by ${metric.name}`), tag),
    isPrimary ? h("p", { class: "lead" }, model.sentence) : null,
    run.is_finished ? h("p", { class: "quiet" }, `Only ${primary} is confirmatory, the other metrics are exploratory.`) : null,
    ranking(state, model),
    isPrimary && model.legend ? h("p", { class: "quiet legend" }, model.legend) : null,
    model.notes.length === 0 || !isPrimary ? null : h("ul", { class: "notes" }, model.notes.map((it) => h("li", {}, it))),
    metric.signature ? h("p", { class: "quiet" }, "Signature: ", h("code", {}, plain(metric.signature))) : null,
    h("h3", {}, "Differences"), differences(state, model), labelPriors(state, model));
}
