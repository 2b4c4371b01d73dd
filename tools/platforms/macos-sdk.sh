#!/bin/sh
# macos-sdk.sh CROSS SDK: creates the folder SDK, against which macOS programs are linked: stubs, no code.
#
# A stub (`.tbd`) lists the symbols that a system library exports. zig, installed in CROSS, ships the one for libSystem (libc,
# libm, threads, unwinding). Those of the libraries that Metal needs are written here: only the symbols that Satchel uses, all of
# them older than macOS 11, so a program that uses another one is not linked before somebody has looked up its age. The compiler
# links libiconv into every program and the linker drops it again (`-dead_strip_dylibs`), so its list is empty.
set -eu
cross=$1
sdk=$2
made_by=$(cksum <"$0")
[ "$(cat "$sdk/complete" 2>/dev/null)" != "$made_by" ] || exit 0
echo "making stubs of macOS libraries in ${sdk##*/}"
rm -rf "$sdk"

# The symbols $1… as a stub lists them.
symbols() {
    list=
    for symbol; do list="$list${list:+, }_$symbol"; done
    echo "[ $list ]"
}

# Writes the stub $1 of the library with the install name $2, which exports $3… (without the underscore).
stub() {
    path=$sdk/$1
    install_name=$2
    shift 2
    mkdir -p "${path%/*}"
    cat >"$path" <<TBD
--- !tapi-tbd
tbd-version:     4
targets:         [ x86_64-macos, arm64-macos ]
install-name:    '$install_name'
exports:
  - targets:         [ x86_64-macos, arm64-macos ]
    symbols:         $(symbols "$@")
...
TBD
}

# The stub of the framework $1, whose library's version is $2.
framework() {
    name=$1
    folder=System/Library/Frameworks/$1.framework
    install_name=/$folder/Versions/$2/$1
    shift 2
    stub "$folder/$name.tbd" "$install_name" "$@"
}

mkdir -p "$sdk/usr/lib"
zig=$("$cross/bin/python" -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')
# lld 22 does not know the architecture arm64e.x1 and crashes on it.
sed 's/arm64e\.x1-/arm64-/g' "$zig/lib/libc/darwin/libSystem.tbd" >"$sdk/usr/lib/libSystem.tbd"
for name in libc libm; do
    ln -s libSystem.tbd "$sdk/usr/lib/$name.tbd"
done
stub usr/lib/libiconv.tbd /usr/lib/libiconv.2.dylib
# Part of Objective-C's run-time library since macOS 10.7, objc_alloc since 10.9. Structures are returned by a function of its own
# on x86-64 alone.
stub usr/lib/libobjc.tbd /usr/lib/libobjc.A.dylib \
    class_addIvar class_addMethod class_getInstanceVariable class_getName class_isMetaClass class_respondsToSelector \
    ivar_getOffset objc_alloc objc_allocateClassPair objc_autoreleasePoolPop objc_autoreleasePoolPush objc_destroyWeak \
    objc_disposeClassPair objc_getClass objc_initWeak objc_loadWeakRetained objc_msgSend objc_msgSendSuper \
    objc_registerClassPair objc_release objc_retain objc_retainAutoreleasedReturnValue object_getClass sel_getName \
    sel_registerName
sed -i "s/^\.\.\.\$/  - targets:         [ x86_64-macos ]\n    symbols:         $(symbols objc_msgSend_stret)\n.../" "$sdk/usr/lib/libobjc.tbd"
framework CoreFoundation A CFRelease
# Since macOS 10.12 at the latest.
framework CoreGraphics A \
    CGColorSpaceCreateWithName kCGColorSpaceDisplayP3 kCGColorSpaceExtendedLinearSRGB kCGColorSpaceExtendedSRGB kCGColorSpaceSRGB
framework Foundation C NSKeyValueChangeNewKey
# Nothing of these two: they are named by the crates, and dropped.
framework IOSurface A
framework QuartzCore A
# Since macOS 10.11. The rest of Metal is classes, which are looked up by name when the program runs.
framework Metal A MTLCopyAllDevices
echo "$made_by" >"$sdk/complete"
