//! The shell script of a universal file: it extracts the right program into a cache folder and starts it on the file.
//!
//! It must run in every POSIX shell (dash, bash, zsh, mksh, busybox), so it is plain POSIX, and fit into the head of a PE
//! image, so it is terse. ksh93 refuses scripts with zero bytes, which a PE header always has, and mksh refuses files that
//! begin with MZ; there, and for programs that call `exec` without a shell, start it with `sh FILE`. The program is a raw
//! deflate stream in the file's bundle; the script adds a gzip header and trailer so that `gzip` can decompress it. In the
//! cache it is named by its SHA-256, verified at every start, and put in place by a rename, so that concurrent starts see
//! it complete or not at all.

use std::fmt::Write as _;

use crate::platform::Platform;

/// What the script needs to know about a program in the file.
pub(super) struct Carried {
    pub(super) platform: Platform,
    /// Offset of its deflate stream from the start of the file.
    pub(super) offset: u64,
    pub(super) stored_bytes: u64,
    pub(super) size: u64,
    pub(super) crc32: u32,
    pub(super) sha256: String,
}

/// The script, beginning with the end of the quotation that the PE image's first bytes open.
pub(super) fn script(carried: &[Carried]) -> String {
    let mut script = String::from(HEAD);
    script.push_str("case $k in\n");
    for one in carried {
        let Carried { platform, offset, stored_bytes, sha256, .. } = one;
        let trailer = octal(&[one.crc32.to_le_bytes(), (one.size as u32).to_le_bytes()].concat());
        let from = offset + 1; // `tail -c +N` counts from 1
        _ = writeln!(script, "{platform}) o={from} n={stored_bytes} c='{trailer}' h={sha256};;");
    }
    script.push_str(TAIL);
    script
}

fn octal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:03o}")).collect()
}

const HEAD: &str = r#"'
# Satchel: a program on Windows; here a script that places the right program and starts it on this file.
die() { echo "satchel: $*" >&2; exit 1; }
f=$0
[ -f "$f" ] || f=$(command -v -- "$0")
[ -f "$f" ] || die "cannot find this file; start it with: sh FILE"
a=${HOME:-/}/.cache
case $(uname -s)-$(uname -m) in
Linux-x86_64) k=linux-x86_64; [ -e /lib64/ld-linux-x86-64.so.2 ] || k=$k-static;;
Linux-aarch64|Linux-arm64) k=linux-aarch64;;
Darwin-arm64) k=macos-aarch64 a=${HOME:-/}/Library/Caches;;
Darwin-x86_64) k=macos-x86_64 a=${HOME:-/}/Library/Caches;;
*) die "this file has no program for $(uname -s) on $(uname -m)";;
esac
"#;

const TAIL: &str = r#"*) die "this file has no program for $k";;
esac
sum() { s=$({ sha256sum <"$1" || shasum -a 256 <"$1" || openssl dgst -r -sha256 <"$1"; } 2>/dev/null); echo "${s%% *}"; }
[ "$(sum /dev/null)" ] || die "needs sha256sum, shasum or openssl to check its program"
command -v gzip >/dev/null || die "needs gzip to unpack its program"
t=
place() {
d=$1 r=$1/$h w=$1/.$h.$$
t="$t${t:+, }$d"
(umask 077; mkdir -p "$d") 2>/dev/null
[ -d "$d" ] && [ ! -L "$d" ] && [ -O "$d" ] || return 1
[ "$(sum "$r" 2>/dev/null)" = $h ] || {
{ printf '\037\213\010\0\0\0\0\0\0\003'; tail -c +$o "$f" | head -c $n; printf "$c"; } | gzip -dc >"$w" && chmod 700 "$w" && [ "$(sum "$w")" = $h ] && mv -f "$w" "$r" || { rm -f "$w"; return 1; }
} 2>/dev/null
"$r" --version >/dev/null 2>&1
}
place "${XDG_CACHE_HOME:-$a}/satchel" || place "${TMPDIR:-/tmp}/satchel-$(id -u)" || die "cannot place and start its program for $k; tried $t. Set XDG_CACHE_HOME to a folder where programs may be written and run"
exec "$r" --bundle "$f" "$@"
exit 1
"#;
