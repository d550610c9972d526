#!/usr/bin/env bash
# Installs what harness is measured against, and writes the built-in model in a form it reads.
#
#     benches/peers/setup.sh VENV [GGUF]
#
# VENV is made by `python3 -m venv` and may be thrown away. It gets the packages below and, in
# VENV/checkpoint, the weights of GGUF decoded to float32 as a checkpoint folder of Hugging Face's
# form: the same numbers that harness multiplies by; VENV/model.gguf is a link to GGUF. GGUF defaults to where harness keeps the
# built-in model (`harness models pull builtin:smollm2-135m-instruct` fetches it). Some 6 GB, since
# the torch of PyPI brings its GPU libraries; needs Python 3.11 or newer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

packages=(
    accelerate==1.15.0
    datasets==5.2.0
    gguf==0.19.0
    lm_eval==0.4.13
    numpy==2.4.6
    safetensors==0.8.0
    tokenizers==0.23.3
    torch==2.15.0
    transformers==5.23.0
    xllamacpp==2026.10.11549
)

venv=${1:?usage: benches/peers/setup.sh VENV [GGUF]}
gguf=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/prompt-harness/models/SmolLM2-135M-Instruct.Q4_1.gguf}
if [[ ! -f $gguf ]]; then
    printf 'error: there is no `%s`; `harness models pull` fetches the built-in model\n' "$gguf" >&2
    exit 1
fi
python3 -m venv "$venv"
"$venv/bin/python" -m pip --disable-pip-version-check --quiet install "${packages[@]}"
"$venv/bin/python" tests/fixtures/builtin/export_safetensors.py --gguf "$gguf" --out "$venv/checkpoint"
ln -sfn "$(cd "$(dirname "$gguf")" && pwd)/$(basename "$gguf")" "$venv/model.gguf"
printf 'peers: %s\n' "$venv"
