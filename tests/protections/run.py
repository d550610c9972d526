#!/usr/bin/env python3
"""Takes one protection after the other out of a copy of the sources and shows which tests fail.

    tests/protections/run.py             every protection of switches.txt
    tests/protections/run.py NAME...     some of them: `S3.digest`, or `S3` for all of that fault
    tests/protections/run.py --table     the same, and writes their rows of tests/PROTECTIONS.md

All of them are put into one build, each behind a switch; PROTECTION_OUT names the one that is
out. Asked are the tests that tests/FAULTS.md names for the fault and those on the lines `? ` of
switches.txt, quick ones first. They must pass with nothing taken out, and one must fail, end the
process or not come to an end with each protection that is: then the others are not asked. Ends
with 1 otherwise.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path("tests/protections")
TABLE = ROOT / "tests/PROTECTIONS.md"
PROFILE = shlex.split(os.environ.get(
    "PROFILE", "--release --config profile.release.package.prompt-harness.opt-level=1"))
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "prompt-harness"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target"))
# A test that takes longer hangs.
TIMEOUT = 300
SWITCH = '''
/// Whether the protection of that name is taken out.
pub fn is_out(name: &str) -> bool {
    static OUT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    *OUT.get_or_init(|| std::env::var("PROTECTION_OUT").unwrap_or_default()) == *name
}
'''


class Protection:
    def __init__(self, name, what):
        self.name, self.what, self.tests, self.files = name, what, [], []


def read_switches():
    """The protections by name, and the edits that put switches around them."""
    protections, edits, group, edit = {}, [], [], None
    for line in (ROOT / HERE / "switches.txt").read_text().splitlines():
        if line.startswith("# "):
            if edit:
                group, edit = [], None
            name, what = line[2:].split(": ", 1)
            protections[name] = Protection(name, what)
            group.append(protections[name])
        elif line.startswith("? "):
            for it in group:
                it.tests.append(line[2:])
        elif line.startswith(("-", "+")):
            edit["-+".index(line[0])].append(line[1:])
        elif line:
            edit = ([], [])
            edits.append((line, edit))
            for it in group:
                it.files.append(line)
    return protections, [(file, "\n".join(old), "\n".join(new)) for file, (old, new) in edits]


def read_faults():
    """The tests that tests/FAULTS.md names, by number of the fault."""
    faults = {}
    for line in (ROOT / "tests/FAULTS.md").read_text().splitlines():
        cells = line.strip("| ").split(" | ")
        if re.fullmatch(r"[A-Z]\d+", cells[0]):
            faults[cells[0]] = re.findall(r"`([^`]+\.rs::\w+)`", cells[-1])
    return faults


def apply(edits, root):
    texts = {}
    for file, old, new in edits:
        text = texts.setdefault(file, (root / file).read_text())
        if text.count(old) != 1:
            sys.exit(f"{file}: stands there {text.count(old)} times, not once:\n{old}")
        crate = "harness" if file.startswith("src/cli/") else "crate"
        new = re.sub(r"OUT\(([\w.-]+)\)", rf'{crate}::is_out("\1")', new)
        texts[file] = text.replace(old, new)
    texts["src/lib.rs"] = (root / "src/lib.rs").read_text() + SWITCH
    for file, text in texts.items():
        (root / file).write_text(text)


def copy(to):
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)


def build(root):
    """The names of all tests with the program that has them."""
    command = ["cargo", "test", "--no-run", "--message-format=json", *PROFILE]
    command += ["--lib", "--bin", "harness", "--test", "integration"]
    env = dict(os.environ, CARGO_TARGET_DIR=str(TARGET))
    built = subprocess.run(command, cwd=root, env=env, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        sys.exit("it does not compile")
    tests = {}
    for line in built.stdout.splitlines():
        it = json.loads(line)
        if it.get("executable") and it.get("profile", {}).get("test"):
            kind = it["target"]["kind"][0]
            listed = subprocess.check_output([it["executable"], "--list"], text=True, cwd=root)
            for name in re.findall(r"^(\S+): test$", listed, re.M):
                tests[kind, name] = it["executable"]
    return tests


def find(test, tests):
    """The program that has a test, and the test's name in it."""
    path, name = test.split(".rs::")
    kind = "test" if path.startswith("tests/") else "bin" if path.startswith("src/cli/") else "lib"
    module = re.sub(r"^(src|tests/integration)/|/mod$", "", path).replace("/", "::")
    names = [it for it in tests if it[0] == kind and it[1].startswith(module + "::")
             and it[1].split("::")[-1] == name]
    if len(names) != 1:
        sys.exit(f"{test}: {len(names)} tests of that name")
    return tests[names[0]], names[0][1]


def fails(test, out, tests, root):
    """How a test fails with a protection out; None if it passes."""
    program, name = find(test, tests)
    env = dict(os.environ, PROTECTION_OUT=out, CARGO_MANIFEST_DIR=str(root), RUST_BACKTRACE="0")
    env["TMPDIR"] = tempfile.mkdtemp()
    try:
        ended = subprocess.run([program, "--exact", name], cwd=root, env=env, timeout=TIMEOUT,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    except subprocess.TimeoutExpired:
        return "hangs"
    finally:
        shutil.rmtree(env["TMPDIR"], ignore_errors=True)
    if ended.returncode == 0:
        return None if b"1 passed" in ended.stdout else "is not there"
    return "fails" if ended.returncode == 101 else "ends the process"


def ask(protections, faults, tests, root):
    """Prints which test fails first without each protection; that by name."""
    asked = {it.name: list(dict.fromkeys(it.tests + faults.get(it.name.split(".")[0], [])))
             for it in protections}
    with ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:

        def whole(test):
            begun = time.monotonic()
            how = fails(test, "", tests, root)
            if how:
                print(f"BROKEN   {test} {how} with nothing taken out", flush=True)
            return how, time.monotonic() - begun

        every = sorted({test for names in asked.values() for test in names})
        took = dict(zip(every, pool.map(whole, every)))

        def first(it):
            sound = [test for test in asked[it.name] if not took[test][0]]
            for test in sorted(sound, key=lambda test: took[test][1]):
                how = fails(test, it.name, tests, root)
                if how:
                    print(f"held     {it.name}: {test} {how}", flush=True)
                    return test, how
            print(f"MISSED   {it.name}: {it.what}", flush=True)
            return None

        found = dict(zip((it.name for it in protections), pool.map(first, protections)))
    return found, any(how for how, _ in took.values()) or not all(found.values())


def write_table(protections, found):
    """Writes the rows of what was asked; what has no test that fails is not measured."""
    lines = TABLE.read_text().split("\n")
    rows = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| ")}
    for it in protections.values():
        if found.get(it.name):
            test, how = found[it.name]
            shown = f"`{test}`" + ("" if how == "fails" else f" ({how})")
            files = ", ".join(f"`{file}`" for file in dict.fromkeys(it.files))
            rows[it.name] = f"| {it.name} | {it.what} | {files} | {shown} |"
        elif it.name in found:
            rows.pop(it.name, None)
    start = lines.index("|---|---|---|---|") + 1
    end = lines.index("", start)
    lines[start:end] = [rows[name] for name in protections if name in rows]
    missing = [f"`{name}`" for name in protections if name not in rows]
    start = lines.index("## Not measured") + 2
    lines[start:lines.index("", start)] = [", ".join(missing) or "Nothing."]
    TABLE.write_text("\n".join(lines))


def main():
    words = sys.argv[1:]
    protections, edits = read_switches()
    names = [it for it in words if it != "--table"]
    chosen = [it for it in protections.values()
              if not names or it.name in names or it.name.split(".")[0] in names]
    root = TARGET / "protections"
    root.mkdir(parents=True)
    try:
        copy(root)
        apply(edits, root)
        found, is_bad = ask(chosen, read_faults(), build(root), root)
        if "--table" in words:
            write_table(protections, found)
    finally:
        shutil.rmtree(root)
    sys.exit(is_bad)


if __name__ == "__main__":
    main()
