// Why one variant finds a text likelier: the same tokens with their logprobs side by side.

/** Differences in nats from which a token is tinted one step more. */
const STEPS = [0.05, 0.3, 1, 2.5];

/** The scored texts of a side on an example: choice, token texts, ids, logprobs. */
function scoredTexts(state, side, example) {
  const found = place(state, side, example);
  const { tokens } = RUNS[side.run];
  if (found === null || !tokens) return [];
  return (tokens.places.get(found.key) ?? []).map(({ choice, start, end }) => {
    const of = [];
    for (let i = start; i < end; i += 1) {
      const logprob = number(tokens.logprob[i]);
      // Written as short as an f32 allows; this gives back the very number.
      of.push({ token: text(tokens.token[i]), id: tokens.id[i], logprob: Math.fround(logprob), isTop: tokens.is_argmax[i] === 1 });
    }
    return { choice, of };
  });
}

function sum(list) {
  return list.reduce((total, it) => total + it.logprob, 0);
}

/** Spaces and line ends inside a token can be seen. */
function tokenText(token) {
  return [...token].map((it) => (it === " " ? "␣" : it === "\n" || TREACHEROUS.test(it) ? written(it) : it)).join("") || "∅";
}

/** How strongly a difference is tinted, from -4 to 4. */
function tint(difference) {
  const size = STEPS.filter((it) => Math.abs(difference) >= it).length;
  return difference < 0 ? -size : size;
}

/** The heat map of one scored text on both sides. */
function heatMap(state, a, b) {
  const [nameA, nameB] = [sideName(state, state.a), sideName(state, state.b)];
  const isSame = a.of.length === b.of.length && a.of.every((it, i) => it.id === b.of[i].id);
  const nats = (it) => formatValue("nats", it);
  const gain = (it) => (Number.isNaN(it) ? NOTHING : formatGain("nats", it));
  const total = [sum(a.of), sum(b.of)];
  const sumLine = h("p", { class: "sum" }, "Sum: ", nameA, " ", h("b", {}, nats(total[0])), ", ", nameB, " ", h("b", {}, nats(total[1])),
    ", difference ", h("b", {}, gain(total[0] - total[1])), " nats. ",
    isSame ? null : "The texts were cut into different tokens, so only the sums can be held against each other.");
  const says = h("p", { class: "readout", role: "status" }, "Arrow keys move from token to token.");
  let running = 0;
  const rows = isSame ? a.of.map((it, i) => {
    running += it.logprob - b.of[i].logprob;
    return { token: tokenText(it.token), a: it, b: b.of[i], difference: it.logprob - b.of[i].logprob, running };
  }) : [];
  const chips = rows.map((it, i) => {
    const step = tint(it.difference);
    const top = (of) => (of.isTop ? " (most likely token)" : "");
    const words = `Token ${i + 1} of ${rows.length}, ${it.token}: ${nameA} ${nats(it.a.logprob)}${top(it.a)}, ` +
      `${nameB} ${nats(it.b.logprob)}${top(it.b)}, difference ${gain(it.difference)}; up to here ${gain(it.running)} nats`;
    const chip = h("button", { type: "button", class: `token t${step}`, tabindex: i === 0 ? "0" : "-1", "aria-label": words },
      h("bdi", { class: "piece" }, it.token), h("span", { class: "diff" }, gain(it.difference)));
    chip.addEventListener("focus", () => { says.textContent = words; });
    chip.addEventListener("mouseenter", () => { says.textContent = words; });
    chip.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: rows.length - 1 }[event.key];
      if (to === undefined || !chips[to]) return;
      for (const of of chips) of.setAttribute("tabindex", of === chips[to] ? "0" : "-1");
      chips[to].focus();
      event.preventDefault();
    });
    return chip;
  });
  const asTable = () => table("Logprobs by token", ["token", nh(nameA), nh(nameB), nh("difference")],
    [...rows.map((it) => [inline(it.token), n(nats(it.a.logprob)), n(nats(it.b.logprob)), n(gain(it.difference))]),
      h("tr", { class: "total" }, h("th", { scope: "row" }, "sum"), n(nats(total[0])), n(nats(total[1])), n(gain(total[0] - total[1])))]);
  const alone = (name, list) => [h("p", { class: "quiet" }, name),
    h("div", { class: "heat" }, list.of.map((it) => h("span", { class: "token t0" },
      h("bdi", { class: "piece" }, tokenText(it.token)), h("span", { class: "diff" }, nats(it.logprob)))))];
  return [
    isSame ? h("div", { class: "heat", role: "group", "aria-label": `Tokens with the difference ${nameA} minus ${nameB}` }, chips)
      : [alone(nameA, a), alone(nameB, b)],
    isSame ? says : null, sumLine,
    isSame ? h("details", {}, h("summary", {}, "The tokens as a table"), asTable()) : null,
  ];
}

/** Token by token for one example, closed until somebody asks; null where no run has tokens. */
function tokenDetails(state, example) {
  const lists = [state.a, state.b].map((side) => scoredTexts(state, side, example));
  const shared = lists[0].map((it) => [it, lists[1].find((of) => of.choice === it.choice)]).filter((it) => it[1]);
  if (shared.length === 0) return null;
  const { cases } = RUNS[state.a.run];
  const first = casesOf(state, state.a, example)[0];
  const right = cases.target_choice[first];
  const start = Math.max(0, shared.findIndex(([it]) => it.choice === right));
  const body = h("div", {});
  const draw = (index) => {
    const [a, b] = shared[index];
    const name = (choice) => plain(cut(text(cases.choices[first][choice]?.[0] ?? null) ?? String(choice), 80));
    const pairs = shared.map(([it], i) => [i, `${name(it.choice)}${it.choice === right ? " (right)" : ""}`]);
    const chooser = shared.length === 1 ? null
      : labelled("Choice", select(`choice-${example}`, pairs, index, (it) => {
        draw(Number(it));
        body.querySelector("select").focus();
      }));
    body.replaceChildren(...[chooser, heatMap(state, a, b)].flat(2).filter(Boolean));
  };
  const box = h("details", { class: "why" }, h("summary", {}, `Token by token: ${sideName(state, state.a)} against ${sideName(state, state.b)}`), body);
  box.addEventListener("toggle", () => box.open && body.childElementCount === 0 && draw(start));
  return box;
}

/** How to get the tokens of runs that lack them; null if none does. */
function tokenHint(state) {
  const lacks = [...new Set([state.a.run, state.b.run])].filter((it) => !RUNS[it].tokens);
  if (lacks.length === 0) return null;
  return h("p", { class: "quiet" }, "Token by token: ", lacks.map((it) => `run ${RUNS[it].run}`).join(" and "), " has no table of tokens; ",
    h("code", {}, "harness run FILE --tokens"), " makes one, and computes nothing that is stored.");
}
