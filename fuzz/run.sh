#!/usr/bin/env bash
# Builds the fuzz targets, runs each for a while and prints what came of it as a table.
#
#     fuzz/run.sh [SECONDS] [TARGET]...    600 seconds and all targets, unless said otherwise
#
# FUZZ_WORK   folder for corpora, logs and what was found; a new temporary one unless set
# FUZZ_JOBS   how many targets run at a time; 1 unless set
# FUZZ_BUILD  more arguments of `cargo fuzz build`, e.g. `--sanitizer none`
#
# Ends with 1 if a target found something. A corpus that is there already is gone on with.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-600}
shift || true
work=${FUZZ_WORK:-$(mktemp -d)}
jobs=${FUZZ_JOBS:-1}
built=${CARGO_TARGET_DIR:-fuzz/target}
host=$(rustc -vV | sed -n 's/^host: //p')
# libFuzzer's instrumentation is not stable; this lets the stable compiler do it.
export RUSTC_BOOTSTRAP=1
# What runs in the background does not hear Ctrl-C.
trap 'kill 0' INT

all=(experiment jsonl delimited template filter chat_template gguf safetensors manifest evidence
    store terminal csv parquet_claims tokenizer_json parquet)
targets=("$@")
[ $# -gt 0 ] || targets=("${all[@]}")

features() {
    case $1 in
        parquet) echo --features tables ;;
        tokenizer_json) echo --features tokenize ;;
    esac
}

# The files that a target begins with, without the data and scripts beside them.
seeds() {
    case $1 in
        experiment)
            find fuzz/seeds/experiment tests/fixtures/{experiments,bad-experiments} experiments \
                -maxdepth 1 -name '*.toml'
            ;;
        parquet | parquet_claims) find tests/fixtures/parquet -name '*.parquet' ;;
        chat_template) find fuzz/seeds/chat_template tests/fixtures/chat -name '*.jinja' ;;
        *) find "fuzz/seeds/$1" -type f ;;
    esac
}

dictionary() {
    case $1 in
        experiment) echo -dict=fuzz/dictionaries/experiment.dict ;;
        template | filter | chat_template) echo -dict=fuzz/dictionaries/jinja.dict ;;
        jsonl | manifest | evidence | safetensors | tokenizer_json)
            echo -dict=fuzz/dictionaries/json.dict
            ;;
    esac
}

# Runs one target; its log ends with seconds of wall, user and system time.
fuzz() {
    local folder=$work/$1 TIMEFORMAT='time: %R %U %S' memory=/dev/shm scratch
    mkdir -p "$folder/corpus" "$folder/seeds"
    seeds "$1" | xargs -I{} cp {} "$folder/seeds"
    # Targets that write files write them to memory, where there is such a place.
    [ -w "$memory" ] || memory=$work
    scratch=$(mktemp -d -p "$memory")
    # shellcheck disable=SC2046  # Nothing, where there is no dictionary.
    { time TMPDIR=$scratch ASAN_OPTIONS=detect_odr_violation=0 nice -n 19 \
        "$built/$host/release/$1" "$folder/corpus" "$folder/seeds" $(dictionary "$1") \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 -max_len=65536 \
        -print_final_stats=1 -artifact_prefix="$folder/"; } >"$folder/log" 2>&1 || true
    rm -rf "$scratch"
}

row() {
    local log=$work/$1/log found
    found=$(find "$work/$1" -maxdepth 1 \( -name 'crash-*' -o -name 'oom-*' -o -name 'timeout-*' \) |
        wc -l)
    awk -v target="$1" -v found="$found" '
        / cov: / {
            for (i = 1; i < NF; i++) {
                if ($i == "cov:") cov = $(i + 1)
                if ($i == "ft:") ft = $(i + 1)
                if ($i == "corp:") { split($(i + 1), corpus, "/") }
            }
        }
        /^INFO: Seed:/ { seed = $3 }
        /^stat::number_of_executed_units:/ { runs = $2 }
        /^stat::peak_rss_mb:/ { peak = $2 }
        /^time: / { wall = $2; cpu = $3 + $4 }
        END {
            result = found ? found " found" : (runs ? "nothing" : "did not run")
            printf "| `%s` | %s | %d | %.0f s | %.0f s | %d | %d | %d | %d MB | %s |\n", \
                target, seed, runs, wall, cpu, corpus[1], cov, ft, peak, result
        }' "$log"
}

for target in "${targets[@]}"; do
    # shellcheck disable=SC2046,SC2086
    cargo fuzz build $(features "$target") ${FUZZ_BUILD:-} --target-dir "$built" "$target"
done
for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
        wait -n
    done
    fuzz "$target" &
done
wait

echo "Corpora, logs and findings: $work"
echo '| target | seed | executions | wall | CPU | corpus | edges | features | peak memory | found |'
echo '|---|---|---|---|---|---|---|---|---|---|'
for target in "${targets[@]}"; do
    row "$target"
done | tee "$work/table.md"
! grep -qv '| nothing |$' "$work/table.md"
