"""The table of `benches/README.md`, from the raw numbers that `run.py` collects.

    python3 benches/peers/table.py FIGURES_JSON    prints it
"""

import json
import sys
from pathlib import Path
from statistics import median

BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
MIB = 2**20
MEMORY_ALLOWANCE = 400e6  # Bytes beyond the weights in f32.
# Written behind a ratio whose two sides were not measured in one invocation.
APART = "†"


def seconds(value: float) -> str:
    if value < 1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def rate(unit: str):
    return lambda value: f"{value:.0f} {unit}" if 100 <= value else f"{value:.1f} {unit}"


def mebibytes(value: float) -> str:
    return f"{value / MIB:.0f} MiB"


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


class Table:
    """Rows of Markdown; a figure that was not measured is left out."""

    def __init__(self, figures: dict):
        self.figures = figures
        self.rows: list[str] = []
        self.is_apart = False

    def rounds(self, section: str, figure: str) -> list[float]:
        return self.figures.get(section, {}).get(figure, [])

    def row(self, what: str, ours: str, theirs: str, ratio: str, required: str, is_met):
        verdict = {True: "yes", False: "**no**", None: "–"}[is_met]
        self.rows.append(f"| {what} | {ours} | {theirs} | {ratio} | {required} | {verdict} |")

    def compare(self, what: str, ours: tuple, theirs: tuple, least: float, written, is_cost=False):
        """A row with a ratio: how many times better the median of ours is; 0 requires nothing."""
        mine, peers = self.rounds(*ours), self.rounds(*theirs)
        if not mine or not peers:
            return
        ratio = median(peers) / median(mine) if is_cost else median(mine) / median(peers)
        together = self.figures[ours[0]]["at"] == self.figures[theirs[0]]["at"]
        self.is_apart |= not together
        mark = "" if together else APART
        self.row(
            *[what, spread(mine, written), spread(peers, written)],
            f"{ratio:.2f}×{mark}" if ratio < 10 else f"{ratio:.1f}×{mark}",
            f"≥ {least:g}×" if least else "–",
            least <= ratio if least else None,
        )

    def limit(self, what: str, values: list[float], most: float, written, peer: str = "–") -> None:
        """A row with an upper limit."""
        if values:
            is_met = median(values) <= most
            self.row(what, spread(values, written), peer, "–", f"≤ {written(most)}", is_met)


def spread(values: list[float], written) -> str:
    """The median, with the least and the greatest where there are several."""
    text = written(median(values))
    if 1 < len(values):
        text += f" ({written(min(values))} to {written(max(values))})"
    return text


def markdown(figures: dict) -> str:
    table = Table(figures)
    table.compare(
        "2,400-request job, start to finish, against lm-evaluation-harness",
        *[("harness", "job_seconds"), ("lm_eval", "job_seconds"), 12, seconds],
        is_cost=True,
    )
    table.compare(
        "the same with choices of one token, which lm-evaluation-harness reads off one row",
        *[("harness", "one_token_job_seconds"), ("lm_eval", "one_token_job_seconds"), 0, seconds],
        is_cost=True,
    )
    tokens, written = rate("tokens/s"), rate("new tokens/s")
    table.compare(
        "distinct texts of 128 tokens, every token scored, against transformers",
        *[("engine", "distinct"), ("transformers", "distinct"), 1.3, tokens],
    )
    table.compare(
        "the same, against candle-transformers, which computes the last logits only",
        *[("engine", "distinct"), ("engine", "distinct_candle"), 6, tokens],
    )
    table.compare(
        "32 prompts continued by 32 tokens, greedily, against transformers at batch 32",
        *[("engine", "generation"), ("transformers", "generation"), 3, written],
    )
    table.compare(
        "one sequence continued alone, against candle-transformers",
        *[("engine", "alone"), ("engine", "alone_candle"), 1.5, written],
    )
    table.compare(
        "distinct texts against llama.cpp, one at a time, last logits only, 8-bit activations",
        *[("engine", "distinct"), ("llama_cpp", "distinct"), 0, tokens],
    )
    table.compare(
        "one sequence continued alone, against llama.cpp, 8-bit activations",
        *[("engine", "alone"), ("llama_cpp", "alone"), 0, written],
    )
    own_rows(table)
    head = "| figure | harness | peer | ratio | required | met |\n|---|---|---|---|---|---|"
    return "\n".join(
        [conditions(figures), "", head, *table.rows, "", *notes(table), *experiments(figures)]
    )


def experiments(figures: dict) -> list[str]:
    """The example experiments as a table of their own."""
    record = figures.get("experiments")
    if not record:
        return []
    head = "| `harness run`, from nothing stored | requests | time | peak memory |\n|---|---|---|---|"
    rows = [
        f"| `experiments/{name}` | {n_requests:,} | {seconds(spent)} | {mebibytes(peak)} |"
        for name, n_requests, spent, peak in record["rows"]
    ]
    return ["", head, *rows]


def own_rows(table: Table) -> None:
    """Rows without a peer to be faster than."""
    engine = table.figures.get("engine", {})
    peaks = table.rounds("lm_eval", "job_peak_bytes")
    if engine:
        table.limit(
            "peak memory of the 2,400-request job",
            table.rounds("harness", "job_peak_bytes"),
            engine["weights_f32_bytes"] + MEMORY_ALLOWANCE,
            mebibytes,
            mebibytes(peaks[0]) if peaks else "–",
        )
    table.limit("the job again, all stored", table.rounds("harness", "rerun_seconds"), 1.0, seconds)
    table.limit("`harness --help`", table.rounds("harness", "help_seconds"), 0.020, seconds)
    table.limit(
        "`harness plan` on 1,000 rows, 4 choices each",
        *[table.rounds("harness", "plan_seconds"), 0.300, seconds],
    )
    if engine:
        peak = max(engine["peak"])
        flop = engine["trunk_flop_per_row"]
        shares = [rows * flop / (peak * 1e9) for rows in engine["trunk"]]
        share = median(shares)
        table.row(
            "products of the layers, as a share of the measured f32 peak",
            f"{spread(engine['trunk'], rate('rows/s'))} = {percent(share)}",
            f"{peak:.0f} GFLOP/s",
            *["–", "≥ 75 %", 0.75 <= share],
        )


def conditions(figures: dict) -> str:
    """When, where and with which versions: what a figure says nothing without."""
    records = [it for it in figures.values() if "at" in it]
    machines = [it["machine"] for it in records]
    dates = sorted({it["at"][:10] for it in records})
    processors = sorted({place(it) for it in machines})
    versions = {}
    for record in records:
        versions |= record.get("versions", {})
    named = ", ".join(f"{name} {it}" for name, it in sorted(versions.items()) if name != "commit")
    load = max(it["load"] for it in machines)
    return (
        f"Measured on {' and '.join(dates)} on {' and on '.join(processors)}. Versions: {named}. "
        f"Load of the machine before: {load:.1f}. Median of all rounds, with the range behind it."
    )


def place(machine: dict) -> str:
    named = {"avx512f": "AVX-512", "avx2": "AVX2"}
    simd = next((f", {name}" for flag, name in named.items() if flag in machine["simd"]), "")
    memory = f", {machine['memory_bytes'] / 2**30:.0f} GiB" if machine["memory_bytes"] else ""
    cores, threads = f"{machine['cores']} cores", f"{machine['threads']} threads each"
    return f"{machine['processor']} ({cores}{simd}{memory}), {threads}"


def notes(table: Table) -> list[str]:
    """What the ratios rest on."""
    lines = []
    jobs = list(table.figures.get("agreement", {}).values())
    if jobs:
        n, n_same, n_cases = (sum(it[key] for it in jobs) for key in ("n", "n_same", "n_cases"))
        apart = max(it["max_nats_apart"] for it in jobs)
        lines.append(
            f"Harness and lm-evaluation-harness scored the same characters; the {n:,} "
            f"log-likelihoods of both jobs are at most {apart:.1e} nats apart, and the likeliest "
            f"choice is the same in {n_same:,} of {n_cases:,} cases. The latter ran "
            f"in batches of {table.figures['lm_eval']['batch']}."
        )
    n_rows = table.figures.get("harness", {}).get("rows")
    if n_rows:
        lines.append(
            f"Of the {sum(n_rows):,} rows that the first job's requests take one by one, harness "
            f"computed {n_rows[0]:,}; the rest was shared."
        )
    peer = table.figures.get("transformers")
    if peer:
        lines.append(
            f"Transformers (batches of {peer['batch']}, the fastest size tried) got the same "
            f"log-likelihoods of the distinct texts to {peer['max_nats_apart']:.1e} nats a text, and "
            f"wrote the same continuation for {peer['n_equal']} of {peer['n_prompts']} prompts."
        )
    if table.is_apart:
        dates = {name: it["at"] for name, it in table.figures.items() if "at" in it}
        listed = ", ".join(f"{name} {at}" for name, at in dates.items())
        lines.append(
            f"{APART} The two sides were measured in different invocations ({listed}), so other work "
            "on the machine may have met them differently."
        )
    return [part for line in lines for part in (line, "")][:-1]


def replace(readme: Path, text: str) -> None:
    """Puts `text` between the markers of `readme`."""
    old = readme.read_text(encoding="utf-8")
    before, _, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{readme} has no {BEGIN} ... {END}")
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())))
