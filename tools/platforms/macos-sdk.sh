#!/bin/sh
# macos-sdk.sh CROSS SDK: creates the folder SDK, against which macOS programs are linked: stubs, no code.
#
# A stub (`.tbd`) lists the symbols that a system library exports. zig, installed in CROSS, ships the one for libSystem (libc,
# libm, threads, unwinding), the only library that Satchel's runtime calls; the compiler links libiconv into every program and
# the linker drops it again (`-dead_strip_dylibs`), so its list is empty.
set -eu
cross=$1
sdk=$2
[ ! -f "$sdk/complete" ] || exit 0
echo "making stubs of macOS libraries in ${sdk##*/}"
rm -rf "$sdk"
mkdir -p "$sdk/usr/lib"
zig=$("$cross/bin/python" -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')
# lld 22 does not know the architecture arm64e.x1 and crashes on it.
sed 's/arm64e\.x1-/arm64-/g' "$zig/lib/libc/darwin/libSystem.tbd" >"$sdk/usr/lib/libSystem.tbd"
for name in libc libm; do
    ln -s libSystem.tbd "$sdk/usr/lib/$name.tbd"
done
cat >"$sdk/usr/lib/libiconv.tbd" <<'TBD'
--- !tapi-tbd
tbd-version:     4
targets:         [ x86_64-macos, arm64-macos ]
install-name:    '/usr/lib/libiconv.2.dylib'
exports:
  - targets:         [ x86_64-macos, arm64-macos ]
    symbols:         [ ]
...
TBD
touch "$sdk/complete"
