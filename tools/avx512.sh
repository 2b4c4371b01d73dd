#!/bin/bash
# Runs the tests of the AVX-512 kernels, and of whole models on them, on an emulated processor with AVX-512.
#
#     tools/avx512.sh            the kernels' unit tests and two tiny models (some minutes of one core)
#     tools/avx512.sh smollm2    SmolLM2 instead (about as long again; tools/model.sh fetches it)
#     tools/avx512.sh models     every architecture against llama.cpp's logits, and sequences beside others
#     BOCHS=PATH MODEL=sapphire_rapids MASKED=580 TABLES="avx512bf16 amx" tools/avx512.sh
#                                another Bochs and processor: Debian's 2.7 has neither BF16 nor AMX. Linux gives tiles to processes
#                                only on a processor with XFD
#
# QEMU does not support AVX-512; Bochs does. It boots Debian's cloud kernel with the statically linked test programs as its
# initramfs. Only Debian packages are installed; the kernel's is just unpacked, in target/avx512.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-kernels}
tables=${TABLES:-avx512 avx512vnni}
bochs=${BOCHS:-bochs}
limit=${LIMIT:-3600} # the emulation's timeout in seconds
root=$PWD
packages=$root/target/avx512
folder=$packages/$what
target=x86_64-unknown-linux-gnu
say() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }
fail() { echo "avx512.sh: $*" >&2; exit 1; }
case $what in kernels | models | smollm2) ;; *) fail "unknown argument '$what'; give kernels (the default), models or smollm2" ;; esac

say "1 of 4: the emulator and a kernel for it, from Debian"
mkdir -p "$folder"
missing=
for pair in "$bochs:bochs" script:bsdutils cc:gcc; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
for package in bochs-term bochsbios vgabios; do
    dpkg -s $package >/dev/null 2>&1 || missing="$missing $package"
done
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || fail "missing:$missing; install these packages, or run this as root"
    echo "installing:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
unpacked() { # downloads and unpacks a Debian package without installing it: its files are for the guest
    [ -d "$packages/$1" ] && return
    echo "unpacking $1"
    (cd "$packages" && rm -rf ./*.deb part && apt-get download -qq "$1" && dpkg-deb -x ./*.deb part && rm ./*.deb && mv part "$1")
}
linux=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
[ -n "$linux" ] || fail "Debian's package lists have no linux-image-cloud-amd64; run apt-get update"
unpacked "$linux"
unpacked busybox-static
kernel=$(echo "$packages/$linux"/boot/vmlinuz-*)

say "2 of 4: the tests, linked statically"
# Debug assertions would double the emulation's time; the same tests run with them on this machine's tables.
options=(--locked --target $target --message-format json-render-diagnostics)
for crate in satchel satchel-compute; do
    for check in debug-assertions overflow-checks; do options+=(--config "profile.dev.package.$crate.$check=false"); done
done
built=$(CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
    cargo test -p satchel -p satchel-compute --lib --test integration --no-run "${options[@]}")
executable() { # prints the path of the executable of the target with kind $1 and name $2
    printf '%s\n' "$built" | python3 -c '
import json, sys
for line in sys.stdin:
    artifact = json.loads(line)
    if artifact.get("executable") and artifact["target"]["kind"] == [sys.argv[1]] and artifact["target"]["name"] == sys.argv[2]:
        print(artifact["executable"])' "$@"
}
sources=(bin/busybox="$packages/busybox-static/bin/busybox")
add() { # puts program $2, stripped, at path $1 in the guest
    objcopy --strip-all "$2" "$folder/${1##*/}"
    sources+=("${1#/}=$folder/${1##*/}")
}
add "$root/runtime/units" "$(executable lib satchel_compute)"
add "$root/runtime/integration" "$(executable test integration)"
add "$root/runtime/engine" "$(executable lib satchel)"
program=$(executable bin satchel)
add "$program" "$program"
cc -nostdlib -static -o "$folder/off" tools/avx512/shutdown.S
add /bin/shutdown "$folder/off"

say "3 of 4: the emulated machine's memory"
units="kernels:: --skip kernels::threads"
case $what in
kernels)
    while read -r file; do sources+=("${root#/}/$file=$root/$file"); done < <(find tests/data/reference tests/data/models -type f)
    steps=("./units $units" "./integration reference::a_tiny_llama" "./integration reference::stories260k") ;;
models)
    while read -r file; do sources+=("${root#/}/$file=$root/$file"); done < <(find tests/data/architectures tests/data/models -type f)
    steps=("./integration architectures::" "./engine engine::tests::interleaved") ;;
smollm2)
    file=tests/data/reference/smollm2-chat.json
    for file in $file tests/data/models/stories260K-f32.v3.gguf "$(tools/model.sh)"; do sources+=("${root#/}/$file=$root/$file"); done
    steps=("./integration reference::smollm2") ;;
esac
{
    echo '#!/bin/busybox sh'
    echo 'b=/bin/busybox; $b mkdir -p /proc /dev /tmp; $b mount -t proc proc /proc; $b mount -t devtmpfs dev /dev'
    echo "cd '$root/runtime'; export CI=1 SATCHEL_TEST_TABLES='$tables'; failed="
    for step in "${steps[@]}"; do
        echo "echo '> $step'; $step --nocapture --test-threads=1 2>&1 || failed=1"
        echo 'echo "emulated seconds so far: $($b cut -d" " -f1 /proc/uptime)"'
    done
    echo '[ -n "$failed" ] && echo "EMULATED TESTS FAILED" || echo "EMULATED TESTS PASSED"; $b sleep 0.1; /bin/shutdown'
} >"$folder/init"
sources+=("init=$folder/init")
# Linux feature bits that Bochs 2.7 describes in a way Linux 6.1 cannot handle: protection keys (a state of size 0), compacting
# XSAVE and XSAVES (not compacted), and fast short `rep movsb` without the fast long one (a memmove that never stops reading).
masked=clearcpuid=${MASKED:-515,321,323,580}
# Disables what the emulated machine lacks or what is slow to set up.
spared="nosmp noapic nolapic acpi=off pci=off nokaslr tsc=reliable mitigations=off init_on_alloc=0 apparmor=0 audit=0 cryptomgr.notests"
python3 tools/avx512/image.py "$kernel" "console=ttyS0,115200 quiet $spared $masked" "$folder" "${sources[@]}" >"$folder/layout"
# shellcheck disable=SC1091 # written by the line before
. "$folder/layout" # IMAGE, PARAMETERS, KERNEL, MEMORY
cc -c -DIMAGE="$IMAGE" -DPARAMETERS="$PARAMETERS" -DKERNEL="$KERNEL" -DMEMORY="$MEMORY" -o "$folder/reset.o" tools/avx512/reset.S
objcopy -O binary -j .text "$folder/reset.o" "$folder/reset.rom"
cat >"$folder/bochsrc" <<BOCHSRC
cpu: model=${MODEL:-corei7_icelake_u}, count=1, ips=200000000, reset_on_triple_fault=0
memory: guest=$((MEMORY >> 20)), host=$((MEMORY >> 20))
romimage: file=$folder/reset.rom, address=0xffff0000
optramimage1: file=$folder/image, address=$IMAGE
clock: sync=none
pci: enabled=0
magic_break: enabled=1
display_library: term
com1: enabled=1, mode=file, dev=$folder/serial
log: $folder/log
panic: action=fatal
BOCHSRC
printf 'c\nq\n' >"$folder/commands"

say "4 of 4: the tests on $tables, emulated"
: >"$folder/serial"
tail -n +1 -f "$folder/serial" &
follower=$!
# Bochs needs a terminal, which `script` provides; it also logs the screen to a file, in case Bochs does not start.
TERM=vt100 timeout -k 10 "$limit" script -qec "stty cols 80 rows 30; exec '$bochs' -q -f '$folder/bochsrc' -rc '$folder/commands'" \
    "$folder/screen" </dev/null >/dev/null &
emulator=$!
trap 'kill $follower $emulator 2>/dev/null || true' EXIT
while kill -0 $emulator 2>/dev/null && ! grep -q "Kernel panic" "$folder/serial"; do sleep 1; done
lines() { grep -Ec "$1" "$folder/serial" || true; }
[ "$(lines "EMULATED TESTS PASSED")" = 1 ] || fail "the tests did not pass; see the emulator's output: serial, log and screen in $folder"
[ "$(lines "(ran on|as asked for:) ${tables// /, }")" -ge "$(lines "ran on|as asked for:")" ] || fail "a test ran on other tables"
say "passed on $tables"
