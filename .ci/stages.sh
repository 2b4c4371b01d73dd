# Sourced by .ci/run: stages with their times. Each prints its own when it ends, and a table of all of them comes last,
# whether the run passed or not. Processor time counts programs that have ended, those in the background included.

stage=
table=
times_file=$(mktemp)

# Sets `processor`: seconds of processor time of all programs that this shell has waited for. Neither a pipe nor `$(…)` would
# do, which are another shell.
count_processor() {
    times >"$times_file"
    processor=$(awk 'NR == 2 { gsub(/[ms]/, " "); print int($1 * 60 + $2 + $3 * 60 + $4) }' "$times_file")
}

# Begins a stage, and ends the one before.
begin() {
    end_stage
    stage=$*
    begun=$SECONDS
    count_processor
    begun_processor=$processor
    printf '\n=== %s (at %d s)\n' "$stage" "$SECONDS"
}

end_stage() {
    [ -n "$stage" ] || return 0
    count_processor
    local wall=$((SECONDS - begun)) used=$((processor - begun_processor))
    table+=$(printf '%6d  %9d   %s' "$wall" "$used" "$stage${1:-}")$'\n'
    printf -- '--- %s: %d s, of a processor %d s\n' "$stage" "$wall" "$used"
    stage=
}

finish() {
    local status=$? left
    left=$(jobs -p)
    # shellcheck disable=SC2086 # a list of numbers
    [ -z "$left" ] || kill $left 2>/dev/null || true
    if [ "$status" = 0 ]; then end_stage; else end_stage ": FAILED"; fi
    rm -f "$times_file"
    printf '\n wall s  processor s   stage\n%s%6d               all\n' "$table" "$SECONDS"
    exit "$status"
}
trap finish EXIT
