# Sourced by .ci/run: which long checks need no second run, since nothing that they are about has changed.
#
# A group of files has a fingerprint, the SHA-256 of their names and contents. Where a long check has passed, .ci/run writes
# the fingerprint into .ci/passed, which is committed with the change; where that one is found again, the check is left out.
# So a clone without history can tell. Of what was never recorded a run says that it is not checked, until SATCHEL_PLATFORMS=all
# has checked it once.

# What each long check is about.
files_of() {
    case $1 in
    # The programs for other platforms: what makes them, and what packs, finds and takes apart what they carry.
    platforms)
        set -- packer runtime/container runtime/build.rs runtime/windows runtime/src/own_file.rs runtime/src/cli/console.rs \
            tools/release.sh tools/platforms tests/platforms.rs tests/universal.rs tests/wine
        ;;
    dependencies) set -- Cargo.toml Cargo.lock ;;
    # Whatever compiles or runs elsewhere, under valgrind or under the fuzzer: every change of the programs' sources.
    types | valgrind | fuzz) set -- runtime packer tests/fuzz tests/valgrind.sh tools/platforms Cargo.lock ;;
    neon) set -- runtime/compute/src runtime/compute/Cargo.toml tools/neon.sh ;;
    *) echo "inputs.sh: there is no group $1" >&2; return 1 ;;
    esac
    git ls-files -z --cached --others --exclude-standard -- "$@" | sort -z
}

fingerprint() {
    files_of "$1" | while IFS= read -r -d '' file; do
        [ ! -f "$file" ] || sha256sum "$file"
    done | sha256sum | cut -d ' ' -f 1
}

# Whether this state of the group has passed before.
has_passed() {
    grep -qxF "$1 $(fingerprint "$1")" .ci/passed 2>/dev/null
}

# Whether any state of the group has.
was_recorded() {
    grep -q "^$1 " .ci/passed 2>/dev/null
}

# Records that it has.
record_pass() {
    local kept
    kept=$(grep -v "^$1 " .ci/passed 2>/dev/null || true)
    printf '%s\n' "$kept" "$1 $(fingerprint "$1")" | sed '/^$/d' | sort >.ci/passed
    echo "$1: recorded in .ci/passed; commit that with the change, or the next run checks it again"
}
