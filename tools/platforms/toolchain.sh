# Sourced by tools/release.sh and others: the compiler and linkers for every platform, and their settings. Everything that is not
# a Debian package is in .cache/, so nothing outside the repository changes permanently.

cross=$repository/.cache/cross
sdk=$repository/.cache/macos-sdk
ziglang=0.17.0
zigbuild=0.24.0
# The compiler that Debian packages for building browsers: newer than Debian 12's rustc, and with the standard library's source.
compiler="rustc-web cargo-web rust-web-src gcc libc6-dev nodejs npm"
linkers="lld-22 llvm-22 python3-venv"
all_platforms="linux-x86_64 linux-x86_64-static linux-aarch64 windows-x86_64 macos-aarch64 macos-x86_64"

# The target triple of a platform.
triple() {
    case $1 in
    linux-x86_64) echo x86_64-unknown-linux-gnu ;;
    linux-x86_64-static) echo x86_64-unknown-linux-musl ;;
    linux-aarch64) echo aarch64-unknown-linux-gnu ;;
    windows-x86_64) echo x86_64-pc-windows-gnullvm ;;
    macos-aarch64) echo aarch64-apple-darwin ;;
    macos-x86_64) echo x86_64-apple-darwin ;;
    esac
}

# Installs what `cargo check` needs, if missing.
install_compiler() {
    # shellcheck disable=SC2086 # a list of words
    install_packages $compiler
    /usr/bin/rustc --version
}

# Installs missing Debian packages. Without root, lists them.
install_packages() {
    missing=
    for package; do
        dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            missing="$missing $package"
    done
    # Node.js and Python may be installed by other means.
    ! command -v npm >/dev/null || missing=$(printf '%s' "$missing" | sed 's/ nodejs//; s/ npm//')
    ! python3 -c 'import venv, ensurepip' 2>/dev/null || missing=$(printf '%s' "$missing" | sed 's/ python3-venv//')
    if [ -n "$missing" ] && [ "$(id -u)" = 0 ]; then
        echo "installing:$missing"
        apt-get update -qq
        # shellcheck disable=SC2086 # a list of words
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    elif [ -n "$missing" ]; then
        echo "release: these Debian packages are missing; as root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
}

# Installs the compiler and the linkers.
install_toolchain() {
    case $repository in
    *[[:space:]]*)
        echo "release: the compiler's flags cannot name a folder with spaces: move $repository" >&2
        exit 1
        ;;
    esac
    # shellcheck disable=SC2086 # lists of words
    install_packages $compiler $linkers
    if [ "$(cat "$cross/versions" 2>/dev/null)" != "$ziglang $zigbuild" ]; then
        echo "installing ziglang $ziglang and cargo-zigbuild $zigbuild in .cache/cross"
        rm -rf "$cross"
        python3 -m venv "$cross"
        "$cross/bin/python" -m pip install --quiet --disable-pip-version-check "ziglang==$ziglang" "cargo-zigbuild==$zigbuild"
        # rustc calls it by this name to strip a Mach-O file.
        ln -s /usr/bin/llvm-objcopy-22 "$cross/bin/rust-objcopy"
        echo "$ziglang $zigbuild" >"$cross/versions"
    fi
    sh tools/platforms/macos-sdk.sh "$cross" "$sdk"
    /usr/bin/rustc --version
}

# Builds the chat page into folder $1 if one of its sources is newer.
build_page() {
    sources="web-ui/index.html web-ui/package-lock.json web-ui/public web-ui/src web-ui/tsconfig.json web-ui/vite.config.ts"
    # shellcheck disable=SC2086 # a list of words
    if [ -f "$1/index.html" ] && [ -z "$(find $sources -newer "$1/index.html" -print -quit)" ]; then
        echo "unchanged"
        return
    fi
    # runtime/build.rs uses the same stamp file, and then finds everything installed.
    if ! cmp -s web-ui/package-lock.json web-ui/node_modules/.installed-lock.json; then
        npm --prefix web-ui ci --ignore-scripts --no-audit --no-fund --loglevel=error
        cp web-ui/package-lock.json web-ui/node_modules/.installed-lock.json
    fi
    (cd web-ui && node node_modules/vite/bin/vite.js build --logLevel=warn --emptyOutDir --outDir "$1")
    touch "$1/index.html"
}

# Switches to that compiler.
use_compiler() {
    plain_path=$PATH
    export PATH="/usr/bin:$PATH"
    # Building the standard library needs a nightly compiler or this setting.
    export RUSTC_BOOTSTRAP=1
}

# Sets up compiler and linkers; each of the two groups of tools/release.sh gets half of the CPUs.
use_toolchain() {
    use_compiler
    export PATH="$cross/bin:$PATH"
    CARGO_BUILD_JOBS=$((($(nproc) + 1) / 2))
    export CARGO_BUILD_JOBS
    export SATCHEL_PAGE="$repository/target/release-platforms/page"
    export CARGO_ZIGBUILD_CACHE_DIR="$repository/.cache/zigbuild" ZIG_GLOBAL_CACHE_DIR="$repository/.cache/zig"
    # Build times, such as the header time stamp of Windows programs, become 1970 in every build.
    export SOURCE_DATE_EPOCH=0
    build_flags="--release --locked -p satchel -Zbuild-std=std,panic_unwind -Zbuild-std-features=panic-unwind,default"

    # Panic messages contain source paths: make them independent of this machine.
    registry=${CARGO_HOME:-$HOME/.cargo}
    same="--remap-path-prefix=$repository=/satchel --remap-path-prefix=$registry=/cargo"
    library=/usr/lib/rustlib/src/rust
    same="$same --remap-path-prefix=$library=/rust --remap-path-prefix=$(readlink -f $library)=/rust"
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="$same"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="$same"
    export CARGO_TARGET_X86_64_PC_WINDOWS_GNULLVM_RUSTFLAGS="$same"
    # Debian's compiler has no musl of its own to link to; zig does.
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS="$same -Clink-self-contained=no"
    export SDKROOT="$sdk" MACOSX_DEPLOYMENT_TARGET=11.0
    apple="-Clinker=ld64.lld-22 -Clinker-flavor=ld64.lld -Clink-arg=-dead_strip_dylibs -Clink-arg=-adhoc_codesign"
    # So that packer/src/macho can add a segment and sign: room for a load command, and fixups that do not count segments.
    apple="$apple -Clink-arg=-headerpad -Clink-arg=100 -Clink-arg=-no_fixup_chains"
    export CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS="$same $apple"
    export CARGO_TARGET_X86_64_APPLE_DARWIN_RUSTFLAGS="$same $apple"
}

# Switches back to the default compiler.
leave_toolchain() {
    export PATH="$plain_path"
    unset CARGO_BUILD_JOBS CARGO_TARGET_DIR SATCHEL_PAGE RUSTC_BOOTSTRAP SDKROOT MACOSX_DEPLOYMENT_TARGET
    unset CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS
}
