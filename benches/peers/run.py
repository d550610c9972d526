"""Measures harness beside its peers and writes the table of `benches/README.md`.

    benches/peers/setup.sh VENV
    python3 benches/peers/run.py VENV

Runs on one machine, one thing after another, each in `--rounds` rounds that take turns:

    harness       the binary: the jobs of `job.py`, a rerun, `--help`, `plan`
    engine        `benches/engine.rs`: the engine in memory, candle-transformers, the f32 peak
    transformers  `transformers_engine.py`: what the engine was asked
    llama_cpp     `llama_cpp_engine.py`: the same, as far as it can; for orientation
    lm_eval       lm-evaluation-harness on the same jobs; once, after the first round
    sharing       `benches/sharing.rs` and its drawing; once
    experiments   every file of `experiments/`, from nothing stored; once

Every raw number goes to `benches/peers/figures.json` with machine, versions and time. `--only`
measures some of these anew and keeps the others; a ratio of figures from different invocations is
marked as such in the table. `--quick` does a little of everything, to see that it works: it writes
neither table nor figures, and prints them.

Needs Python 3.11 or newer and nothing but its library, on a Unix system. A quiet machine: the
figures of both sides suffer from other work, but not equally.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SECTIONS = ["harness", "engine", "transformers", "llama_cpp", "lm_eval", "sharing", "experiments"]
ONCE = ["lm_eval", "sharing", "experiments"]
LM_EVAL_BATCH = 16
# The jobs of `job.py`, with what their figures are called.
JOBS = {"several": "job", "one": "one_token_job"}


class Child:
    """A finished process: its time from start to end, its own largest memory, what it printed."""

    def __init__(self, command: list, env: dict, log: Path, fine: tuple = (0,)):
        with log.open("wb") as out:
            start = time.perf_counter()
            process = subprocess.Popen([str(it) for it in command], env=env, stdout=out, stderr=out)
            _, status, usage = os.wait4(process.pid, 0)
            self.seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in fine:
            tail = log.read_text(errors="replace")[-2000:]
            raise SystemExit(f"{command[0]} ended with {process.returncode}:\n{tail}")
        # Linux counts in KiB, macOS in bytes.
        self.peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self.text = log.read_text(errors="replace")


class Session:
    """One invocation: where things are, and what was measured."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.work: Path = args.work.resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        self.threads = args.threads
        self.machine = machine(self.threads)
        self.env = os.environ | {
            "RAYON_NUM_THREADS": str(self.threads),
            "CANDLE_NUM_THREADS": str(self.threads),
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
            "HF_HOME": str(self.work / "hf"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "NO_COLOR": "1",
        }
        self.figures: dict = {}

    def child(self, name: str, *command, fine: tuple = (0,)) -> Child:
        return Child(list(command), self.env, self.work / f"{name}.log", fine)

    def keep(self, section: str, **values) -> dict:
        """The section's record of this invocation, with `values` set."""
        record = self.figures.setdefault(section, {"at": self.at, "machine": self.machine})
        record.update(values)
        return record

    def append(self, section: str, figure: str, value: float) -> None:
        self.keep(section).setdefault(figure, []).append(value)


def machine(threads: int) -> dict:
    """What the figures depend on."""
    model, memory, flags = platform.machine(), None, ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        model, flags = fields.get("model name", model), fields.get("flags", "")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    simd = [it for it in ("avx2", "fma", "avx512f") if it in flags.split()]
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": threads,
        "simd": simd,
        "memory_bytes": memory,
        "load": os.getloadavg()[0],
    }


def cargo_build() -> dict[str, Path]:
    """Builds the binary and the two benches; their paths by target name."""
    command = "cargo build --release --bin harness --bench engine --bench sharing".split()
    done = subprocess.run(
        [*command, "--message-format=json"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    messages = map(json.loads, done.stdout.splitlines())
    return {
        it["target"]["name"]: Path(it["executable"])
        for it in messages
        if it["reason"] == "compiler-artifact" and it.get("executable")
    }


def run_command(session: Session, binary: Path, jobs: Path, job: str) -> list:
    out = session.work / "results" / job
    return [binary, "run", jobs / job / "topics.toml", "--out", out, "-j", session.threads, "--offline"]


def measure_harness(session: Session, binary: Path, jobs: Path) -> None:
    """The jobs from nothing stored, then what should cost next to nothing."""
    shutil.rmtree(session.work / "results", ignore_errors=True)
    for job, figure in JOBS.items():
        done = session.child("harness-job", *run_command(session, binary, jobs, job))
        session.append("harness", f"{figure}_seconds", done.seconds)
        session.append("harness", f"{figure}_peak_bytes", done.peak_bytes)
    [manifest] = (session.work / "results" / "several").rglob("run.json")
    counts = json.loads(manifest.read_text())["counts"]
    session.keep("harness", rows=[counts["n_rows_computed"], counts["n_rows_shared"]])
    plan = [binary, "plan", jobs / "rows.toml", "--out", session.work / "results", "--offline"]
    rerun = run_command(session, binary, jobs, "several")
    short = {"rerun_seconds": rerun, "plan_seconds": plan, "help_seconds": [binary, "--help"]}
    for figure, command in short.items():
        for _ in range(2 if session.args.quick else 5):
            session.append("harness", figure, session.child("harness-short", *command).seconds)
    version = session.child("harness-short", binary, "--version").text.strip()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    session.keep("harness", versions={"harness": version.split()[-1], "commit": commit})


def measure_engine(session: Session, binary: Path) -> None:
    asked = session.work / "engine.json"
    quick = ["--quick"] if session.args.quick else []
    session.child("engine", binary, *quick, "--rounds", 1, "--json", asked)
    answers = json.loads(asked.read_text())
    record = session.keep("engine")
    for figure, rounds in answers["rounds"].items():
        record.setdefault(figure, []).extend(rounds)
    for figure in ("threads", "instructions", "trunk_flop_per_row", "weights_f32_bytes"):
        record[figure] = answers[figure]
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    candle = next(it for it in lock["package"] if it["name"] == "candle-transformers")
    record["versions"] = {"candle-transformers": candle["version"]}


def measure_transformers(session: Session) -> None:
    asked, out = session.work / "engine.json", session.work / "transformers.json"
    if not asked.exists():
        raise SystemExit("transformers are asked what the engine was; measure `engine` first")
    venv = session.args.venv
    batch = session.figures.get("transformers", {}).get("batch")
    session.child(
        "transformers",
        *[venv / "bin/python", HERE / "transformers_engine.py", asked, venv / "checkpoint", out],
        *["--threads", session.threads],
        *(["--batch", batch] if batch else []),
    )
    answers = json.loads(out.read_text())
    session.append("transformers", "distinct", answers["distinct"]["tokens_per_s"])
    session.append("transformers", "generation", answers["generation"]["tokens_per_s"])
    session.keep(
        "transformers",
        batch=answers["distinct"]["batch"],
        max_nats_apart=answers["distinct"]["max_nats_apart"],
        n_prompts=answers["generation"]["n_prompts"],
        n_equal=answers["generation"]["n_equal"],
        versions=versions(session, "transformers", "torch"),
    )


def measure_llama_cpp(session: Session) -> None:
    asked, out = session.work / "engine.json", session.work / "llama_cpp.json"
    if not asked.exists():
        raise SystemExit("llama.cpp is asked what the engine was; measure `engine` first")
    venv = session.args.venv
    session.child(
        "llama_cpp",
        *[venv / "bin/python", HERE / "llama_cpp_engine.py", asked, venv / "model.gguf", out],
        *["--threads", session.threads],
    )
    for figure, value in json.loads(out.read_text()).items():
        session.append("llama_cpp", figure, value)
    session.keep("llama_cpp", versions=versions(session, "xllamacpp"))


def measure_lm_eval(session: Session, jobs: Path) -> None:
    venv = session.args.venv
    for job, figure in JOBS.items():
        out, tasks = session.work / "lm_eval" / job, jobs / job / "lm_eval"
        shutil.rmtree(out, ignore_errors=True)
        done = session.child(
            "lm_eval",
            *[venv / "bin/lm_eval", "run", "--model", "hf", "--device", "cpu", "--log_samples"],
            *["--model_args", f"pretrained={venv.resolve() / 'checkpoint'},dtype=float32"],
            *["--tasks", ",".join(sorted(it.stem for it in tasks.glob("*.yaml")))],
            *["--include_path", tasks, "--batch_size", LM_EVAL_BATCH, "--output_path", out],
        )
        session.append("lm_eval", f"{figure}_seconds", done.seconds)
        session.append("lm_eval", f"{figure}_peak_bytes", done.peak_bytes)
    session.keep(
        "lm_eval",
        batch=LM_EVAL_BATCH,
        versions=versions(session, "lm_eval", "transformers", "torch"),
    )


def versions(session: Session, *packages: str) -> dict:
    code = "import importlib.metadata as m, sys; print(*(m.version(it) for it in sys.argv[1:]))"
    done = session.child("versions", session.args.venv / "bin/python", "-c", code, *packages)
    return dict(zip(packages, done.text.split(), strict=True))


def agreement(session: Session, binary: Path, job: str) -> dict | None:
    """Whether both scored the same characters, and how far their log-likelihoods are apart."""
    samples = sorted((session.work / "lm_eval" / job).rglob("samples_topics_*.jsonl"))
    results = session.work / "results" / job
    if not samples or not results.exists():
        return None
    theirs = {}
    for path in samples:
        for line in path.read_text(encoding="utf-8").splitlines():
            sample = json.loads(line)
            variant = path.name.removeprefix("samples_topics_").rsplit("_", 1)[0]
            scored = [float(it[0]) for it in sample["filtered_resps"]]
            texts = ["".join(it.values()) for it in sample["arguments"].values()]
            theirs[variant, sample["doc"]["id"]] = (texts, scored)
    sql = (
        "SELECT a.variant, a.example_id, a.prompt, c.choice, c.loglikelihood FROM cases a JOIN choices c "
        "ON a.run = c.run AND a.variant = c.variant AND a.example_id = c.example_id "
        "ORDER BY a.variant, a.example_id, c.choice_index"
    )
    query = [binary, "query", sql, "--run", "latest", "--json", "--out", results]
    done = subprocess.run([str(it) for it in query], capture_output=True, text=True, check=True)
    ours: dict = {}
    answer = json.loads(done.stdout)
    for values in answer["rows"]:
        row = dict(zip(answer["columns"], values, strict=True))
        texts, scored = ours.setdefault((row["variant"], row["example_id"]), ([], []))
        texts.append(f"{row['prompt']} {row['choice']}")
        scored.append(float(row["loglikelihood"]))
    if ours.keys() != theirs.keys():
        raise SystemExit("harness and lm-evaluation-harness did not score the same cases")
    different = [key for key in ours if ours[key][0] != theirs[key][0]]
    if different:
        raise SystemExit(f"the scored texts differ, for instance of {different[0]}")
    pairs = [(ours[key][1], theirs[key][1]) for key in ours]
    apart = [abs(a - b) for x, y in pairs for a, b in zip(x, y, strict=True)]
    same = sum(x.index(max(x)) == y.index(max(y)) for x, y in pairs)
    return {"n": len(apart), "max_nats_apart": max(apart), "n_cases": len(pairs), "n_same": same}


def measure_sharing(session: Session, binary: Path) -> None:
    quick = session.args.quick
    path = session.work / "sharing.json" if quick else ROOT / "benches/sharing.json"
    session.child("sharing", binary, *(["--quick"] if quick else []), "--json", path)
    svg = path.with_suffix(".svg")
    session.child("sharing-svg", sys.executable, ROOT / "benches/sharing.py", path, svg)
    session.keep("sharing", file=path.name)


def measure_experiments(session: Session, binary: Path) -> None:
    """Time and memory of the examples, loading the weights and writing the tables included."""
    rows = []
    for path in sorted((ROOT / "experiments").glob("*.toml")):
        out = session.work / "experiments"
        shutil.rmtree(out, ignore_errors=True)
        limit = ["--limit", 2] if session.args.quick else []
        command = [binary, "run", path, "--out", out, "-j", session.threads, "--offline", *limit]
        # A gate that fails or cannot tell takes as long as one that passes.
        done = session.child("experiment", *command, fine=(0, 1, 4))
        [manifest] = out.rglob("run.json")
        n_requests = json.loads(manifest.read_text())["counts"]["n_requests"]
        rows.append([path.name, n_requests, done.seconds, done.peak_bytes])
    session.keep("experiments", rows=rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("venv", type=Path, help="what setup.sh made")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="may be repeated")
    parser.add_argument("--rounds", type=int, help="[3; 1 with --quick]")
    parser.add_argument("--threads", type=int, default=2, help="for everyone [2]")
    parser.add_argument("--quick", action="store_true", help="a little of everything, no files")
    parser.add_argument("--harness", type=Path, help="binary [built with cargo]")
    parser.add_argument("--engine", type=Path, help="bench [built with cargo]")
    parser.add_argument("--sharing", type=Path, help="bench [built with cargo]")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--work", type=Path, default=cache / "prompt-harness" / "peers")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    wanted = args.only or SECTIONS
    session = Session(args)
    if args.quick:
        session.work = session.work / "quick"
        session.work.mkdir(exist_ok=True)
    binaries = {"harness": args.harness, "engine": args.engine, "sharing": args.sharing}
    if not all(binaries.values()):
        binaries |= {name: path for name, path in cargo_build().items() if not binaries[name]}
    binaries = {name: path.resolve() for name, path in binaries.items()}
    jobs = session.work / "jobs"
    size = ["--items", "4", "--rows", "50"] if args.quick else []
    session.child("job", sys.executable, HERE / "job.py", jobs, *size)
    steps = {
        "harness": lambda: measure_harness(session, binaries["harness"], jobs),
        "engine": lambda: measure_engine(session, binaries["engine"]),
        "transformers": lambda: measure_transformers(session),
        "llama_cpp": lambda: measure_llama_cpp(session),
        "lm_eval": lambda: measure_lm_eval(session, jobs),
        "sharing": lambda: measure_sharing(session, binaries["sharing"]),
        "experiments": lambda: measure_experiments(session, binaries["harness"]),
    }
    for number in range(args.rounds or (1 if args.quick else 3)):
        for section in SECTIONS:
            if section not in wanted or (number and section in ONCE):
                continue
            start = time.perf_counter()
            steps[section]()
            seconds = time.perf_counter() - start
            print(f"round {number + 1}: {section}, {seconds:.0f} s", file=sys.stderr)
    figures_path = (session.work if args.quick else HERE) / "figures.json"
    kept = json.loads(figures_path.read_text()) if figures_path.exists() else {}
    figures = kept | session.figures
    # Kept before the answers are compared: figures of different work make no table.
    figures_path.write_text(json.dumps(figures, indent=1) + "\n")
    together = {job: agreement(session, binaries["harness"], job) for job in JOBS}
    if all(together.values()):
        figures["agreement"] = together
        figures_path.write_text(json.dumps(figures, indent=1) + "\n")
    text = table.markdown(figures)
    if args.quick:
        print("Quick: less work than the labels say, so these figures mean nothing.\n")
    print(text)
    if not args.quick:
        table.replace(ROOT / "benches/README.md", text)


if __name__ == "__main__":
    main()
