// Every example with its cases side by side, a page at a time.

const STATUSES = {
  context_overflow: "the prompt does not fit the model",
  non_finite: "the model computed no finite number",
  zero_probability: "the target has probability 0",
  engine_error: "the engine failed",
  remote_error: "the server failed",
};

const ENDS = { eos: "ended by the model", stop: "ended at a stop text", length: "cut at max_tokens" };

/** A name and what stands for it, in a list of facts. */
function pairOf(name, ...value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
}

/** Choices with their log-likelihoods, most likely first. */
function choiceTable(run, index) {
  const { cases } = run;
  const list = cases.choices[index].map(([of, nats, nTokens], choice) => ({ of, nats: number(nats), nTokens, choice }));
  if (list.length === 0) return null;
  list.sort((a, b) => b.nats - a.nats || a.choice - b.choice);
  const marks = (it) => [
    it.choice === cases.target_choice[index] ? "right" : null,
    it.choice === cases.predicted_choice[index] ? "predicted" : null,
  ].filter(Boolean).join(", ");
  return h("table", { class: "choices" },
    h("thead", { class: "hidden" }, h("tr", {}, ["choice", "nats", "marks"].map((it) => h("th", { scope: "col" }, it)))),
    h("tbody", {}, list.map((it) => h("tr", { class: it.choice === cases.target_choice[index] ? "right" : null },
      h("td", {}, inline(text(it.of))), n(formatValue("nats", it.nats)), h("td", { class: "marks" }, marks(it))))));
}

/** The target with its likelihood. */
function targetFacts(run, index) {
  const { cases } = run;
  const nats = number(cases.loglikelihood[index]);
  if (nats === null) return null;
  const notes = [
    counted(cases.n_target_tokens[index], "token"),
    cases.greedy_match[index] === 1 ? "every token the most likely one" : null,
    cases.boundary_merge[index] === 1 ? "a token straddles prompt and target" : null,
  ].filter(Boolean).join(", ");
  return pairOf("target", `${formatValue("nats", nats)} nats `, h("span", { class: "quiet" }, notes));
}

/** What a case wrote. */
function generation(run, index, repeat) {
  const { cases } = run;
  const written = text(cases.generation[index]);
  if (written === null) return null;
  const reason = text(cases.finish_reason[index]);
  const name = repeat === null ? "generation" : `generation ${repeat + 1}`;
  return [
    h("p", { class: "small" }, name, " ", h("span", { class: "quiet" },
      `${ENDS[reason] ?? plain(reason ?? "")}, ${counted(cases.n_generated_tokens[index] ?? 0, "token")}`)),
    block(written, { label: name }),
  ];
}

/** A value of a single case; a percentage of one case is right or wrong. */
function caseValue(run, { i, unit, value }) {
  const by = run.metrics.find((it) => it.by_case?.kind === "column" && it.by_case.index === i)?.by_case;
  return by?.is_right_or_wrong ? (value === 1 ? "right" : "wrong") : `${formatValue(unit, value)} ${unit}`;
}

/** One side of an example. */
function column(state, side, example) {
  const run = RUNS[side.run];
  const { cases } = run;
  const list = casesOf(state, side, example);
  const title = h("h4", {}, sideName(state, side));
  if (list.length === 0) {
    const why = side.run === state.run ? "not tried" : "no such example in this run, or its fields or its model differ";
    return h("div", { class: "case" }, title, h("p", { class: "quiet" }, why));
  }
  const metric = RUNS[state.run].metrics[state.metric];
  const value = valueOf(state, side, example);
  const isWrong = isFailure(state, side, example);
  const mark = isUnscored(state, side, example) ? "unscored" : isWrong === null ? "" : isWrong ? "✗ wrong" : "✓ right";
  title.append(" ", h("span", { class: `mark ${isWrong ? "bad" : "good"}` }, mark));
  const first = list[0];
  const unscored = list.filter((it) => cases.statuses[cases.status[it]] !== "ok").map((it) => {
    const status = cases.statuses[cases.status[it]];
    const repeat = list.length === 1 ? "" : `repeat ${cases.repeat[it] + 1}: `;
    return h("p", { class: "status" }, `${repeat}${status}`, h("span", {}, `: ${STATUSES[status] ?? ""}`));
  });
  const source = metricOf(state, side)?.by_case?.index;
  const others = run.case_metrics.map((it, i) => ({ ...it, i, value: number(cases.metrics[i][first]) }))
    .filter((it) => it.value !== null && it.i !== source);
  const { start, rest } = promptOf(run, first);
  return h("div", { class: "case" }, title, unscored,
    h("dl", { class: "facts" },
      value === null || isRightOrWrong(state) ? null : pairOf(metric.name, h("b", {}, formatValue(metric.unit, value)), ` ${metric.unit}`),
      targetFacts(run, first),
      list.length > 1 ? null : others.map((it) => pairOf(plain(it.name), caseValue(run, it)))),
    choiceTable(run, first),
    list.map((it) => generation(run, it, list.length === 1 ? null : cases.repeat[it])),
    h("details", {}, h("summary", {}, `prompt, ${counted(cases.n_context_tokens[first], "token")}`),
      block(rest, { start, label: "prompt" })));
}

/** One example. */
function card(state, example) {
  const run = RUNS[state.run];
  const of = run.examples[example];
  const metric = run.metrics[state.metric];
  const gain = gainOf(state, example);
  const way = gain === null || gain === 0 ? "" : gain > 0 ? "better" : "worse";
  const word = !isRightOrWrong(state) ? "" : gain === 0 ? " the same" : gain > 0 ? " gained" : " lost";
  const size = isRightOrWrong(state) ? "" : ` ${withUnit(formatGain(metric.unit, gain ?? 0), metric.difference_unit)}`;
  const badge = gain === null ? null : h("span", { class: `gain ${way}` },
    `${{ better: "▲", worse: "▼", "": "=" }[way]}${word}${size}`);
  const target = text(run.cases.target[casesOf(state, state.a, example)[0]] ?? null);
  const isNews = ([, value]) => text(value) !== of.id;
  const field = (name, value, isTarget) => h("div", { class: isTarget ? "target" : null }, h("dt", {}, name), h("dd", {}, block(value)));
  // A field that is the target is shown once.
  const names = of.fields.find(([, value]) => text(value) === target)?.[0];
  const fields = of.fields.filter(isNews).map(([name, value]) =>
    field([inline(text(name)), name === names ? ", the target" : ""], text(value), name === names));
  return h("article", { class: "example", "aria-label": `Example ${plain(of.id)}` },
    h("header", {}, h("h3", {}, inline(of.id)), badge,
      h("span", { class: "quiet" }, `line ${of.line}`, of.cluster === null ? null : [", cluster ", inline(of.cluster)])),
    h("dl", { class: "fields-of" }, fields,
      target === null || names !== undefined ? null : field("target", target, true)),
    h("div", { class: "cases" }, sides(state).map((it) => column(state, it, example))),
    tokenDetails(state, example));
}

/** Forwards, backwards, and how many at once. */
function pager(state, nFound, place) {
  const last = Math.max(0, Math.ceil(nFound / state.size) - 1);
  const go = (page) => () => {
    state.set({ page }, `go-${place}`);
    document.getElementById("found").scrollIntoView();
  };
  const button = (name, page, isOff) => h("button", { type: "button", disabled: isOff, onclick: go(page) }, name);
  return h("div", { class: "pager", role: "group", "aria-label": `Pages, ${place}`, id: `go-${place}`, tabindex: "-1" },
    button("« first", 0, state.page === 0), button("‹ back", state.page - 1, state.page === 0),
    h("span", {}, `page ${count(state.page + 1)} of ${count(last + 1)}`),
    button("next ›", state.page + 1, state.page >= last), button("last »", last, state.page >= last),
    labelled("per page", select(`size-${place}`, [10, 20, 50, 100].map((it) => [it, String(it)]), state.size,
      (it) => state.set({ size: Number(it), page: 0 }, `size-${place}`))));
}

/** What was found, and the examples of this page. */
function exampleList(state, found) {
  const from = state.page * state.size;
  const to = Math.min(found.length, from + state.size);
  const all = RUNS[state.run].n_examples;
  const says = found.length === 0 ? `No example of ${count(all)} fits.`
    : `${count(from + 1)}–${count(to)} of ${counted(found.length, "example")}${found.length === all ? "" : `, ${count(all)} in all`}`;
  const clear = state.bin === null ? null : h("button", { type: "button", class: "quiet",
    onclick: () => state.set({ bin: null, page: 0 }, "found") }, `only ${binText(state, state.bin)} ✕`);
  return [
    h("div", { class: "found", id: "found", tabindex: "-1" }, h("p", { role: "status" }, says), clear),
    pager(state, found.length, "top"),
    found.slice(from, to).map((it) => card(state, it)),
    found.length > state.size ? pager(state, found.length, "bottom") : null,
  ];
}
