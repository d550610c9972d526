"""Log-likelihoods of distinct texts with Hugging Face transformers, in tokens per second.

The same work as `benches/likelihood.rs`: texts of 128 pseudo-random tokens that share
nothing, every token scored, weights of the built-in model decoded to float32. Run in an
environment with the versions that `tests/fixtures/builtin/make_goldens.py` names:

    python benches/peers/transformers_loglikelihood.py SmolLM2-135M-Instruct.Q4_1.gguf
"""

import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

TEXT_TOKENS = 128
N_TEXTS = 64
BATCH = 16
N_THREADS = 2


def texts(n: int) -> list[list[int]]:
    return [
        [100 + (i * 7919 + t * 104_729 + i * t) % 40_000 for t in range(TEXT_TOKENS)]
        for i in range(n)
    ]


def main() -> None:
    path = Path(sys.argv[1])
    torch.set_num_threads(N_THREADS)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    ids = torch.tensor(texts(N_TEXTS))
    rates = []
    with torch.inference_mode():
        for _ in range(3):
            start = time.perf_counter()
            for batch in ids.split(BATCH):
                logprobs = model(batch).logits[:, :-1].log_softmax(-1)
                logprobs.gather(-1, batch[:, 1:, None]).sum()
            rates.append(ids.numel() / (time.perf_counter() - start))
    print("tokens/s:", ", ".join(f"{rate:.0f}" for rate in rates))


if __name__ == "__main__":
    main()
