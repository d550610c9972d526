"""Answers what `benches/engine.rs` was asked with llama.cpp, through the package xllamacpp.

    VENV/bin/python benches/peers/llama_cpp_engine.py ENGINE_JSON GGUF OUT_JSON [--threads N]

For orientation: llama.cpp reads the Q4_1 file as it is and rounds activations to 8 bits, so its
log-likelihoods are others, by up to 0.7 nats a token. OUT_JSON gets tokens per second by llama.cpp's
own clock: of distinct texts one at a time, logits of the last position only, and of one sequence
that is continued alone, the prompt's time taken off.
"""

import argparse
import json
import urllib.request
from pathlib import Path

import xllamacpp

N_TEXTS = 4


def start(gguf: Path, threads: int) -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.n_ctx = 1024
    params.n_parallel = 1
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.cache_prompt = False
    return xllamacpp.Server(params)


def complete(server: xllamacpp.Server, ids: list[int], n_new: int) -> dict:
    """What llama.cpp's clock says about continuing `ids`."""
    body = {"prompt": ids, "n_predict": n_new, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(
        server.listening_address + "/completion",
        json.dumps(body | {"cache_prompt": False}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        timings = json.load(answer)["timings"]
    if timings["prompt_n"] != len(ids) or timings["predicted_n"] != n_new:
        raise SystemExit(f"llama.cpp did other work than it was asked for: {timings}")
    return timings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("asked", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    asked = json.loads(args.asked.read_text())
    server = start(args.gguf, args.threads)
    texts = asked["texts"][:N_TEXTS]
    complete(server, texts[0], 1)
    read = [complete(server, text, 1) for text in texts]
    seconds = sum(it["prompt_ms"] for it in read) / 1000
    alone = complete(server, asked["prompts"][0], 64)
    answers = {
        "distinct": sum(map(len, texts)) / seconds,
        "alone": alone["predicted_per_second"],
    }
    args.out.write_text(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
