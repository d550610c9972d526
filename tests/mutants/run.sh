#!/usr/bin/env bash
# Puts one seeded bug after the other into a copy of the sources and shows which tests fail.
#
#     tests/mutants/run.sh             every bug
#     tests/mutants/run.sh NAME...     these: names of patches here, without `.patch`
#     tests/mutants/run.sh --dry       only says whether every patch still applies
#
# Ends with 1 if a bug is missed, does not compile or does not apply. A patch says in its second
# line which tests are asked: `pure` are the unit tests of the rooms without candle, `integration`
# those of tests/integration; behind it, parts of their names. `PROFILE` holds cargo's flags.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
read -r -a profile <<<"${PROFILE:---release --config profile.release.package.prompt-harness.opt-level=1}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/prompt-harness/target}"

is_dry=
if [[ ${1:-} == --dry ]]; then
    is_dry=yes
    shift
fi
names=("$@")
if [[ ${#names[@]} == 0 ]]; then
    for patch in "$here"/*.patch; do
        names+=("$(basename "$patch" .patch)")
    done
fi

# One copy for all bugs, always in the same place, so that only what a bug touches is compiled
# again. Its files are new ones: cargo would take what the last run compiled for theirs.
scratch="$CARGO_TARGET_DIR/mutants"
mkdir -p "$CARGO_TARGET_DIR"
if ! mkdir "$scratch"; then
    echo "another run works in $scratch; if none does, remove it"
    exit 2
fi
trap 'rm -rf "$scratch"' EXIT
# The copy belongs to no repository, whatever it lies in.
export GIT_CEILING_DIRECTORIES="$CARGO_TARGET_DIR"
cd "$root"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    if [[ -e $file ]]; then
        mkdir -p "$scratch/$(dirname "$file")"
        cp "$file" "$scratch/$file"
    fi
done
cd "$scratch"

# The tests that a patch names; the rest of its second line is parts of their names.
ask() {
    local kind=$1
    shift
    case $kind in
        pure) cargo test "${profile[@]}" --no-default-features --lib --no-fail-fast -- "$@" ;;
        integration) cargo test "${profile[@]}" --test integration --no-fail-fast -- "$@" ;;
        *) echo "unknown kind of tests: $kind" && return 2 ;;
    esac
}

n_bad=0
for name in "${names[@]}"; do
    patch="$here/$name.patch"
    if ! git apply --check "$patch"; then
        printf 'STALE    %s: the patch does not apply\n' "$name"
        n_bad=$((n_bad + 1))
        continue
    fi
    if [[ $is_dry ]]; then
        printf 'applies  %s\n' "$name"
        continue
    fi
    git apply "$patch"
    read -r -a asked <<<"$(sed -n '2s/^Tests: //p' "$patch")"
    if ask "${asked[@]}" >"$scratch/log" 2>&1; then
        printf 'MISSED   %s: %s\n' "$name" "$(head -n 1 "$patch")"
        n_bad=$((n_bad + 1))
    elif failed=$(grep -E '^test .* FAILED$' "$scratch/log"); then
        printf 'caught   %s\n' "$name"
        sed -E 's/^test (.*) \.\.\. FAILED$/    \1/' <<<"$failed" | sort -u
    else
        printf 'BROKEN   %s: no test failed, but cargo did\n' "$name"
        tail -n 20 "$scratch/log"
        n_bad=$((n_bad + 1))
    fi
    git apply --reverse "$patch"
done
exit $((n_bad != 0))
