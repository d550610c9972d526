r"""Answers what `benches/engine.rs` was asked with Hugging Face transformers in float32.

    VENV/bin/python benches/peers/transformers_engine.py ENGINE_JSON CHECKPOINT OUT_JSON \
        [--threads N] [--batch N]

ENGINE_JSON is what `cargo bench --bench engine -- --json ENGINE_JSON` wrote. Its token ids are
read, so that both compute the same: log-likelihoods of distinct texts from the logits of every
position, and greedy continuations of all prompts in one batch. OUT_JSON gets tokens per second and
how far the answers are apart; a figure means something only if they agree.

Without --batch the texts are tried in several batch sizes, and the fastest one counts.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

BATCHES = [4, 8, 16, 32]


def loglikelihoods(model, ids: torch.Tensor, batch: int) -> list[float]:
    """The sum over each text's tokens but the first, which nothing precedes."""
    sums = []
    for part in ids.split(batch):
        logprobs = model(part).logits[:, :-1].log_softmax(-1)
        picked = logprobs.gather(-1, part[:, 1:, None])[..., 0]
        sums += picked.double().sum(-1).tolist()
    return sums


def distinct(model, asked: dict, batch: int | None) -> dict:
    ids = torch.tensor(asked["texts"])
    loglikelihoods(model, ids[:2], 2)
    rates = {}
    for size in [batch] if batch else BATCHES:
        start = time.perf_counter()
        sums = loglikelihoods(model, ids, size)
        rates[size] = ids.numel() / (time.perf_counter() - start)
    best = max(rates, key=rates.get)
    apart = max(abs(a - b) for a, b in zip(sums, asked["loglikelihoods"], strict=True))
    return {"tokens_per_s": rates[best], "batch": best, "max_nats_apart": apart}


def generation(model, asked: dict) -> dict:
    prompts = torch.tensor(asked["prompts"])
    eos = model.generation_config.eos_token_id
    n_new = max(map(len, asked["generations"]))

    def generate(n: int) -> torch.Tensor:
        mask = torch.ones_like(prompts)
        return model.generate(
            prompts, attention_mask=mask, do_sample=False, max_new_tokens=n, pad_token_id=eos
        )

    generate(2)
    start = time.perf_counter()
    written = generate(n_new)
    seconds = time.perf_counter() - start
    rows = written[:, prompts.shape[1] :].tolist()
    texts = [row[: row.index(eos)] if eos in row else row for row in rows]
    n_equal = sum(a == b for a, b in zip(texts, asked["generations"], strict=True))
    return {
        "tokens_per_s": sum(map(len, texts)) / seconds,
        "n_prompts": len(texts),
        "n_equal": n_equal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("asked", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    asked = json.loads(args.asked.read_text())
    model = AutoModelForCausalLM.from_pretrained(
        args.checkpoint, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    with torch.inference_mode():
        answers = {
            "distinct": distinct(model, asked, args.batch),
            "generation": generation(model, asked),
        }
    args.out.write_text(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
