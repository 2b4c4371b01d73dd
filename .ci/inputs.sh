# Sourced by .ci/run: which long checks can be left out because their input files have not changed since they passed.
#
# The fingerprint of a group of files is the SHA-256 of their names and contents. When a long check passes, .ci/run writes its
# group's fingerprint to .ci/passed, which is committed with the change; while the fingerprint stays the same, the check is left
# out. This works in a clone without history. A group that has no line there is reported as NOT CHECKED, until
# SATCHEL_PLATFORMS=all has checked it once.

# The input files of each long check.
files_of() {
    case $1 in
    # Code that only other systems and processors compile, anywhere among the rest.
    types) set -- Cargo.toml Cargo.lock packer runtime shaders tools/platforms ;;
    # The programs for other platforms: the code and scripts that build them, and those that pack and read their payload.
    platforms)
        set -- packer runtime/container runtime/build.rs runtime/windows runtime/src/own_file.rs runtime/src/cli/console.rs \
            tools/release.sh tools/platforms tests/platforms.rs tests/universal.rs tests/wine
        ;;
    dependencies) set -- Cargo.toml Cargo.lock ;;
    neon) set -- runtime/compute/src runtime/compute/Cargo.toml tools/neon.sh ;;
    *) echo "inputs.sh: unknown group $1" >&2; return 1 ;;
    esac
    git ls-files -z --cached --others --exclude-standard -- "$@" | sort -z
}

fingerprint() {
    files_of "$1" | while IFS= read -r -d '' file; do
        [ ! -f "$file" ] || sha256sum "$file"
    done | sha256sum | cut -d ' ' -f 1
}

# Whether the check has passed with the group's current files.
has_passed() {
    grep -qxF "$1 $(fingerprint "$1")" .ci/passed 2>/dev/null
}

# Whether the check has ever passed.
was_recorded() {
    grep -q "^$1 " .ci/passed 2>/dev/null
}

# Records that the check has passed with the group's current files.
record_pass() {
    local kept
    kept=$(grep -v "^$1 " .ci/passed 2>/dev/null || true)
    printf '%s\n' "$kept" "$1 $(fingerprint "$1")" | sed '/^$/d' | sort >.ci/passed
    echo "$1: recorded in .ci/passed; commit that with the change, or the next run checks it again"
}
