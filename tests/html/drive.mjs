// Opens pages of `harness report` in a headless Chromium and uses them as a reviewer would.
//
//   node tests/html/drive.mjs SPEC.json
//
// The specification is made by tests/integration/html_report.rs: where the pages, the browser
// and the node modules are, and what the pages must count. Ends with 1 at the first broken
// promise. With `out`, screenshots are left there.

import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import vm from "node:vm";

const spec = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const { chromium } = createRequire(path.join(spec.modules, "here.js"))("playwright-core");
const { expected } = spec;

/** The script's rounding and escaping are those of the program. */
function numbersAgree() {
  const page = fs.readFileSync(spec.large, "utf8");
  const script = page.slice(page.lastIndexOf("<script>") + 8, page.lastIndexOf("</script>"));
  // The first two parts of the script need no document.
  const parts = script.slice(script.indexOf("\n") + 1, script.indexOf("const DATA ="));
  const ours = vm.runInNewContext(`${parts}; ({ formatValue, formatGain, plain, TREACHEROUS })`);
  const { numbers, written } = JSON.parse(fs.readFileSync(spec.numbers, "utf8"));
  for (const [unit, bits, value, gain] of numbers) {
    const number = Buffer.from(bits, "hex").readDoubleBE();
    assert.equal(ours.formatValue(unit, number), value, `${number} ${unit}`);
    assert.equal(ours.formatGain(unit, number), gain, `gain ${number} ${unit}`);
  }
  assert(numbers.length > 500);
  const isWritten = (code) => written.some(([from, to]) => from <= code && code <= to);
  for (let code = 0; code <= 0x10ffff; code += 1) {
    if (code >= 0xd800 && code <= 0xdfff) continue;
    assert.equal(ours.TREACHEROUS.test(String.fromCodePoint(code)), isWritten(code), `U+${code.toString(16)}`);
  }
  assert.equal(ours.plain("a\u001b\t\n\u202e"), "a\\u{1b}\\t\\n\\u{202e}");
}

const browser = await chromium.launch({
  executablePath: spec.browser,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
});

/** Opens a page; whatever it should not do is collected. */
async function open(file, { width = 1440, height = 900, colorScheme = "light" } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  const faults = [];
  const url = `file://${file}`;
  page.on("console", (it) => faults.push(`console: ${it.text()}`));
  page.on("pageerror", (it) => faults.push(`error: ${it.stack}`));
  page.on("dialog", (it) => { faults.push("a dialog"); it.dismiss(); });
  page.on("request", (it) => it.url() !== url && !it.url().startsWith("data:,") && faults.push(`request: ${it.url()}`));
  page.on("popup", () => faults.push("a new window"));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (it) => console.error(`violation: ${it.violatedDirective} ${it.blockedURI}`));
  });
  const start = performance.now();
  await page.goto(url);
  await page.waitForSelector("html[data-ready]");
  page.faults = faults;
  page.openMs = performance.now() - start;
  return page;
}

async function shoot(page, name, options = {}) {
  if (spec.out) await page.screenshot({ path: path.join(spec.out, `${name}.png`), ...options });
}

async function close(page) {
  assert.deepEqual(page.faults, []);
  await page.context().close();
}

const found = (page) => page.textContent("#found [role=status]");
const ids = (page) => page.$$eval("article.example h3", (list) => list.map((it) => it.textContent));
const total = async (page) => Number((await found(page)).match(/of ([\d,]+) example/)?.[1].replaceAll(",", "") ?? 0);

/** Changes a choice and waits until the examples are drawn anew. */
async function choose(page, selector, value) {
  await page.selectOption(selector, value);
}

async function type(page, selector, value, n) {
  await page.fill(selector, value);
  await page.waitForFunction((it) => document.querySelector("#found [role=status]").textContent.includes(it), n);
}

const say = (n) => `of ${n.toLocaleString("en-US")} example`;

async function filtersCountRight() {
  const page = await open(spec.large);
  const ms = await page.evaluate(() => performance.getEntriesByType("navigation")[0].domComplete);
  assert(ms < 4000, `${ms} ms to be complete`);
  console.log(`${(fs.statSync(spec.large).size / 1e6).toFixed(1)} MB, ${expected.n} examples x 4 variants: complete after ${ms.toFixed(0)} ms`);
  assert.equal(await total(page), expected.n);
  assert.equal((await ids(page)).length, 20);
  const counts = Object.fromEntries(await page.$$eval("#show option", (list) =>
    list.map((it) => [it.value, Number(it.textContent.match(/\(([\d,]+)\)/)[1].replaceAll(",", ""))])));
  const priors = await page.$$eval("table.priors tbody tr", (list) => list.map((it) => [...it.children].map((of) => of.textContent)));
  assert.deepEqual(priors, expected.priors);
  const { gained, lost } = expected;
  assert.deepEqual(counts, { all: expected.n, failures: expected.failures, unscored: expected.unscored, flips: gained + lost, gained, lost });
  for (const [kind, n] of Object.entries(counts)) {
    await choose(page, "#show", kind);
    assert.equal(await total(page), n, kind);
  }
  await choose(page, "#show", "gained");
  for (const article of await page.$$("article.example")) {
    const marks = await article.$$eval(".case h4", (list) => list.map((it) => it.textContent));
    assert.deepEqual(marks, ["few ✓ right", "bare ✗ wrong"]);
    assert.match(await article.$eval(".gain", (it) => it.textContent), /^▲ gained$/);
  }
  const sums = await page.textContent("#why > p:not(.lead)");
  assert(sums.startsWith(`${gained} gained, ${lost} lost, ${expected.same.toLocaleString("en-US")} the same.`), sums);
  await choose(page, "#show", "all");
  await choose(page, "#columns", "all");
  await choose(page, "#show", "unscored");
  assert.equal(await total(page), expected.unscored_all);
  const status = await page.textContent(".status");
  assert.equal(status, "context_overflow: the prompt does not fit the model");
  await choose(page, "#show", "all");
  await choose(page, "#columns", "pair");

  const start = performance.now();
  await type(page, "#query", "12", say(expected.found_12));
  console.log(`search: ${(performance.now() - start).toFixed(0)} ms, 150 of them waiting for more letters`);
  await type(page, "#query", "  NO SUCH text ", "No example");
  await type(page, "#query", "", say(expected.n));

  await choose(page, "#metric", { label: "chrf" });
  assert.match(await page.textContent(".model h2"), /exploratory/);
  assert.equal(await page.$("#show option[value=flips]"), null, "a metric of points has no flips");
  await choose(page, "#limit-is", "least");
  await type(page, "#limit", "90", say(expected.chrf_from_90));
  await choose(page, "#sort", "low");
  const values = await page.$$eval("article .case:first-child dl.facts b", (list) => list.map((it) => Number(it.textContent)));
  assert(values.every((it, i) => it >= 90 && (i === 0 || values[i - 1] <= it)), `${values}`);
  await type(page, "#limit", "", say(expected.n));
  assert.deepEqual(await ids(page), expected.lowest_chrf);
  await choose(page, "#sort", "worst");
  assert.deepEqual(await ids(page), expected.worst_chrf);
  await choose(page, "#metric", { label: "acc" });

  const bar = page.locator("#bars g[role=button]");
  await bar.nth(2).click();
  assert.equal(await total(page), gained);
  await page.click("text=only right only under the first");
  await choose(page, "#sort", "order");
  assert.equal(await total(page), expected.n);

  const turn = performance.now();
  await page.click("#go-top >> text=last");
  assert.deepEqual((await ids(page)).at(-1), `e${expected.n - 1}`);
  console.log(`last page: ${(performance.now() - turn).toFixed(0)} ms`);
  await choose(page, "#size-top", "100");
  assert.equal((await ids(page)).length, 100);
  // The other direction of the pair turns every sign.
  await page.click("text=swap sides");
  assert.match(await page.textContent("#why .lead"), /^Gain of few over bare: \+30\.0 \[\+28\.0, \+32\.0\] pp, p < 0\.001: improved\.$/);
  assert.equal(Number((await page.textContent("#show option[value=gained]")).match(/\d+/)[0]), lost);
  await close(page);
}

async function tokensAddUp() {
  const page = await open(spec.large);
  await page.click("article:nth-of-type(2) .why summary");
  const sum = await page.textContent("article:nth-of-type(2) .sum");
  const [, few, bare, gain] = sum.match(/few (\S+), bare (\S+), difference (\S+) nats/);
  const nats = await page.$$eval("article:nth-of-type(2) .choices tr.right td.n", (list) => list.map((it) => it.textContent));
  assert.deepEqual([few, bare], nats, "sums are the log-likelihoods of the right choice");
  const chips = await page.$$eval("article:nth-of-type(2) .token .diff", (list) => list.map((it) => Number(it.textContent)));
  assert(Math.abs(chips.reduce((a, b) => a + b, 0) - Number(gain)) < 0.011 * chips.length, `${chips} ${gain}`);
  await page.focus("article:nth-of-type(2) .token");
  await page.keyboard.press("ArrowRight");
  assert.match(await page.textContent("article:nth-of-type(2) .why .readout"), /^Token 2 of 2, xposi: few -\d/);
  await page.selectOption("article:nth-of-type(2) .why select", "0");
  assert.notEqual(await page.textContent("article:nth-of-type(2) .sum"), sum);
  await shoot(page, "tokens");
  await close(page);
}

async function severalRuns() {
  const page = await open(spec.both);
  assert.equal(await page.$$eval("#run option", (list) => list.length), 2);
  await choose(page, "#side-b", "1/2");
  assert.match(await page.textContent("#why .lead"), /`harness compare` judges them/);
  assert.match(await page.textContent("#why"), /run 20260101-120000-bbbb has no table of tokens/);
  const names = await page.$$eval("article:first-of-type .case h4", (list) => list.map((it) => it.textContent));
  assert.match(names[1], /^few · 20260101-120000-bbbb/);
  // The same answers in both runs, but one example that was edited in between.
  assert.match(await page.textContent("#why > p:not(.lead)"), /^0 gained, 0 lost, 1,998 the same\. 2 examples left out/);
  await type(page, "#query", "e0003", say(1));
  assert.match(await page.textContent("article .case:nth-child(2)"), /no such example in this run, or its fields/);
  await type(page, "#query", "", say(expected.n));
  await choose(page, "#run", "1");
  assert.match(await page.textContent(".banner"), /This run is interrupted/);
  assert.match(await page.textContent("#models"), /An unfinished run has no differences/);
  const text = await page.textContent("#models");
  assert(!/improved|regressed|★|▲|▼|\[-?\d/.test(text), text);
  await choose(page, "#metric", { label: "chrf" });
  await type(page, "#query", "e0001", say(1));
  assert.equal(await page.textContent("article .case dl.facts b"), expected.mean_of_draws);
  assert.match(await page.textContent("article .case"), /generation 2 .*the second draw/);
  await close(page);
}

async function hostileTextsStayText() {
  const page = await open(spec.hostile);
  await choose(page, "#size-top", "100");
  await choose(page, "#columns", "all");
  await page.$$eval("details", (list) => list.forEach((it) => { it.open = true; }));
  await page.waitForTimeout(200);
  while (await page.$(".more")) await page.$$eval(".more", (list) => list.forEach((it) => it.click()));
  const blocks = await page.$$eval(".block", (list) => list.map((it) => it.textContent));
  const cells = new Set(blocks);
  for (const [raw, visible] of spec.texts) {
    assert(cells.has(visible), `not shown as text: ${JSON.stringify(raw.slice(0, 80))}`);
  }
  const all = await page.evaluate(() => document.body.innerText);
  for (const character of "\0\u001b\u202e\u2066\u200f\u2028\u009b") assert(!all.includes(character), `U+${character.codePointAt(0).toString(16)} is raw`);
  const tags = await page.evaluate(() => [...new Set([...document.querySelectorAll("*")].map((it) => it.localName))].sort());
  const known = ["a", "article", "b", "bdi", "body", "button", "circle", "code", "dd", "details", "div", "dl", "dt", "fieldset", "footer", "form",
    "g", "h1", "h2", "h3", "h4", "head", "header", "html", "input", "label", "legend", "li", "line", "link", "main", "meta", "nav", "noscript", "optgroup",
    "option", "p", "rect", "script", "section", "select", "span", "style", "summary", "svg", "table", "tbody", "td", "text", "th", "thead",
    "title", "tr", "ul", "caption"];
  assert.deepEqual(tags.filter((it) => !known.includes(it)), []);
  const attributes = await page.evaluate(() => [...document.querySelectorAll("body *")]
    .flatMap((it) => it.getAttributeNames()).filter((it) => it.startsWith("on") || ["style", "src", "srcdoc", "action"].includes(it)));
  assert.deepEqual(attributes, []);
  assert.deepEqual(await page.$$eval("a", (list) => list.map((it) => it.getAttribute("href"))), ["#examples"]);
  assert.equal(await page.$$eval("script", (list) => list.length), 2);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, "no text widens the page");
  await shoot(page, "hostile");
  await close(page);
}

/** The guards are real: what they forbid does not work. */
async function guardsHold() {
  const page = await open(spec.large);
  const tries = await page.evaluate(async () => {
    const results = {};
    try { document.body.innerHTML = "<b>x</b>"; results.html = "ran"; } catch { results.html = "refused"; }
    try { const it = document.createElement("div"); it.setAttribute("style", "width: 7px"); results.style = it.style.width; } catch { results.style = "refused"; }
    try { await fetch("https://example.invalid/"); results.fetch = "ran"; } catch { results.fetch = "refused"; }
    const image = new Image();
    results.image = await new Promise((done) => { image.onerror = () => done("refused"); image.onload = () => done("ran"); image.src = "file:///x.png"; });
    return results;
  });
  assert.deepEqual(tries, { html: "refused", style: "", fetch: "refused", image: "refused" });
  assert(page.faults.some((it) => it.includes("violation")), "a violation is seen by this test");
  await page.context().close();
}

/** Everything can be reached and used without a mouse. */
async function keyboardAlone() {
  const page = await open(spec.large);
  const active = () => page.evaluate(() => {
    const it = document.activeElement;
    return it.id || it.getAttribute("aria-label") || it.textContent.slice(0, 40);
  });
  const tab = async (n = 1) => { for (let i = 0; i < n; i += 1) await page.keyboard.press("Tab"); };
  await tab();
  assert.equal(await active(), "Skip to the examples");
  await page.keyboard.press("Enter");
  await tab();
  assert.equal(await active(), "query");
  await page.keyboard.type("e0012");
  await page.waitForFunction(() => document.querySelector("#found").textContent.includes("of 1 example"));
  assert.equal(await active(), "query", "typing keeps the focus");
  await page.fill("#query", "");
  await page.waitForFunction((it) => document.querySelector("#found").textContent.includes(it), say(expected.n));
  await page.focus("#query");
  await tab();
  assert.equal(await active(), "show");
  await page.keyboard.press("ArrowDown");
  assert.equal(await total(page), expected.failures);
  assert.equal(await active(), "show", "a choice keeps the focus");
  await page.keyboard.press("ArrowUp");

  // From the top: every stop shows where it is, in the order in which things stand.
  await page.evaluate(() => { document.activeElement.blur(); scrollTo(0, 0); });
  await page.focus(".skip");
  const seen = [];
  let [last, sameTwice] = ["", 0];
  for (let i = 0; i < 60; i += 1) {
    await tab();
    const place = await page.evaluate(() => {
      const it = document.activeElement;
      const box = it.getBoundingClientRect();
      const style = getComputedStyle(it);
      const ring = style.outlineStyle !== "none" || it.matches(".bar") || it.matches(".scroll");
      const isSticky = it.closest(".controls") !== null;
      return { name: it.id || it.getAttribute("aria-label") || it.textContent.slice(0, 30), ring, y: isSticky ? null : box.top + scrollY };
    });
    assert(place.ring, `the focus on ${place.name} cannot be seen`);
    sameTwice = place.name === last ? sameTwice + 1 : 0;
    assert(sameTwice < 2, `stuck at ${place.name}`);
    last = place.name;
    seen.push(place.name);
  }
  for (const id of ["metric", "theme", "side-a", "side-b", "query", "show", "sort", "limit-of", "limit-is", "limit", "columns"]) {
    assert(seen.includes(id), `${id} is no stop: ${seen.join(", ")}`);
  }
  assert(seen.some((it) => it.startsWith("Show the examples behind")), "differences lead to their examples");
  assert.equal(seen.filter((it) => /: [\d,]+ examples?$/.test(it)).length, 1, "the chart is one stop");

  await page.focus("#bars g[tabindex='0']");
  await page.keyboard.press("End");
  assert.match(await active(), /^right only under the first/);
  assert.match(await page.textContent("#bars .readout"), /^right only under the first/);
  await page.keyboard.press("Enter");
  assert.equal(await total(page), expected.gained);
  assert.match(await active(), /^right only under the first/, "the chosen bar keeps the focus");
  await page.focus("article .case summary");
  await page.keyboard.press("Enter");
  assert.equal(await page.$eval("article .case details", (it) => it.open), true);
  await page.focus("[aria-label='Show the examples behind chat over bare']");
  await page.keyboard.press("Enter");
  assert.equal(await active(), "pair");
  assert.match(await page.textContent("#why .lead"), /^Gain of chat over bare/);
  const unnamed = await page.$$eval("input, select, button, [role=group], [role=region], svg:not([aria-hidden])", (list) => list
    .filter((it) => !(it.getAttribute("aria-label") || it.labels?.length || it.textContent.trim())).map((it) => it.outerHTML.slice(0, 120)));
  assert.deepEqual(unnamed, []);
  await close(page);
}

async function looks() {
  const background = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await open(spec.large);
  assert.equal(await background(light), "rgb(255, 255, 255)");
  await shoot(light, "light", { fullPage: false });
  await choose(light, "#theme", "dark");
  assert.notEqual(await background(light), "rgb(255, 255, 255)");
  await close(light);
  const dark = await open(spec.large, { colorScheme: "dark" });
  assert.notEqual(await background(dark), "rgb(255, 255, 255)");
  await shoot(dark, "dark");
  await choose(dark, "#theme", "light");
  assert.equal(await background(dark), "rgb(255, 255, 255)");
  await close(dark);
  const narrow = await open(spec.large, { width: 390, height: 844 });
  assert.equal(await narrow.evaluate(() => document.documentElement.scrollWidth), 390, "nothing sticks out on a phone");
  await shoot(narrow, "narrow", { fullPage: true });
  const pdf = await narrow.pdf({ format: "A4" });
  assert.equal(pdf.subarray(0, 5).toString(), "%PDF-");
  const pages = pdf.toString("latin1").match(/\/Type\s*\/Page\b/g).length;
  assert(pages >= 1 && pages <= 4, `${pages} pages on paper`);
  if (spec.out) fs.writeFileSync(path.join(spec.out, "print.pdf"), pdf);
  await close(narrow);
}

/** 50,000 cases are slower, but every one of them is found. */
async function hugeOpens() {
  const page = await open(spec.huge);
  console.log(`${(fs.statSync(spec.huge).size / 1e6).toFixed(1)} MB, ${spec.n_huge} examples x 4 variants: open after ${page.openMs.toFixed(0)} ms`);
  assert.equal(await total(page), spec.n_huge);
  await type(page, "#query", "review 12345:", say(1));
  await close(page);
}

try {
  numbersAgree();
  for (const promise of [filtersCountRight, hugeOpens, tokensAddUp, severalRuns, hostileTextsStayText, guardsHold, keyboardAlone, looks]) {
    console.log(promise.name);
    await promise();
  }
} finally {
  await browser.close();
}
