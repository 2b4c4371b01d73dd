# Sourced by .ci/run: stages with their times. Each stage prints its times when it ends, and a table of all of them comes last,
# whether the run passed or not. CPU time counts programs that have exited, including those in the background.

stage=
table=
times_file=$(mktemp)

# Sets `processor` to the CPU seconds of all programs that this shell has waited for. `times` writes to a file because a pipe or
# `$(…)` would run it in a subshell, which has waited for none.
count_processor() {
    times >"$times_file"
    processor=$(awk 'NR == 2 { gsub(/[ms]/, " "); print int($1 * 60 + $2 + $3 * 60 + $4) }' "$times_file")
}

# Begins a stage; ends the previous one.
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
    printf -- '--- %s: %d s, %d s of CPU time\n' "$stage" "$wall" "$used"
    stage=
}

finish() {
    local status=$? left
    left=$(jobs -p)
    # What `setsid` started goes with all that it has started.
    for job in $left; do kill -- "-$job" 2>/dev/null || kill "$job" 2>/dev/null || true; done
    if [ "$status" = 0 ]; then end_stage; else end_stage ": FAILED"; fi
    rm -f "$times_file"
    printf '\nwall s      CPU s   stage\n%s%6d              all\n' "$table" "$SECONDS"
    exit "$status"
}
trap finish EXIT
