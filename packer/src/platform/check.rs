//! Whether a program is fit for distribution: it must require only what every system of its platform provides.
//!
//! `tools/release.sh` runs this on every runtime it builds. Input is a program without a bundle.

use super::Platform;
use super::facts::Facts;

/// The newest glibc that a program may require: RHEL 7, Debian 8 and everything since have it.
const NEWEST_GLIBC: (u32, u32) = (2, 17);
/// The newest macOS that a program may require: the first on Apple silicon.
const NEWEST_MACOS: (u16, u8) = (11, 0);
/// Upper limit for a runtime without a model, exclusive.
pub const RUNTIME_MAX_BYTES: usize = 16_000_000;

/// Libraries of glibc. A program loads any other library at run time, and works without it.
const GLIBC: [&str; 7] = [
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
];
/// Libraries of every Windows 10, in lower case; the C runtime's `api-ms-win-…` libraries are matched by prefix. A GPU's driver is
/// loaded at run time; `dxgi.dll` is what the crate that does so asks about screens.
const WINDOWS: [&str; 12] = [
    "advapi32.dll",
    "bcrypt.dll",
    "bcryptprimitives.dll",
    "dxgi.dll",
    "kernel32.dll",
    "ntdll.dll",
    "ole32.dll",
    "oleaut32.dll",
    "shell32.dll",
    "user32.dll",
    "userenv.dll",
    "ws2_32.dll",
];
/// Libraries of every macOS 11: libSystem, and what Metal needs.
const MACOS: [&str; 6] = [
    "/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation",
    "/System/Library/Frameworks/CoreGraphics.framework/Versions/A/CoreGraphics",
    "/System/Library/Frameworks/Foundation.framework/Versions/C/Foundation",
    "/System/Library/Frameworks/Metal.framework/Versions/A/Metal",
    "/usr/lib/libSystem.B.dylib",
    "/usr/lib/libobjc.A.dylib",
];

/// Checks that `program`, complete and without a bundle, is fit for `platform`.
///
/// # Errors
/// All faults, a line each.
pub fn check(platform: Platform, program: &[u8]) -> Result<Facts, Vec<String>> {
    match Platform::detect(program) {
        Some(found) if found == platform => {}
        Some(found) => return Err(vec![format!("it is for {found}")]),
        None => return Err(vec!["it is not a program for a platform that Satchel knows".to_owned()]),
    }
    let facts = Facts::read(platform, program).map_err(|line| vec![line])?;
    let mut faults = faults(platform, &facts);
    if program.len() >= RUNTIME_MAX_BYTES {
        faults.push(format!("it has {} bytes; it must stay below {RUNTIME_MAX_BYTES}", program.len()));
    }
    if let Some(signature) = facts.signature.as_ref().filter(|signature| signature.end != program.len() as u64) {
        faults.push(format!("{} bytes follow its signature", program.len() as u64 - signature.end));
    }
    if faults.is_empty() { Ok(facts) } else { Err(faults) }
}

fn faults(platform: Platform, facts: &Facts) -> Vec<String> {
    let mut faults = facts.oddities.clone();
    let unknown = facts.libraries.iter().filter(|library| !is_everywhere(platform, library));
    faults.extend(unknown.map(|library| format!("it needs {library}, which not every system has")));
    let loader = match platform {
        Platform::LinuxX86_64 => Some("/lib64/ld-linux-x86-64.so.2"),
        Platform::LinuxAarch64 => Some("/lib/ld-linux-aarch64.so.1"),
        _ => None,
    };
    if facts.loader.as_deref() != loader {
        faults.push(format!("it is loaded by {}", facts.loader.as_deref().unwrap_or("the system alone")));
    }
    if let Some((major, minor)) = facts.newest_glibc.filter(|version| *version > NEWEST_GLIBC) {
        let (most, most_minor) = NEWEST_GLIBC;
        faults.push(format!("it needs glibc {major}.{minor}; {most}.{most_minor} must be enough"));
    }
    if matches!(platform, Platform::MacosAarch64 | Platform::MacosX86_64) {
        mac_faults(facts, &mut faults);
    }
    faults
}

fn is_everywhere(platform: Platform, library: &str) -> bool {
    match platform {
        Platform::LinuxX86_64 | Platform::LinuxAarch64 => GLIBC.contains(&library),
        Platform::LinuxX86_64Static => false,
        Platform::WindowsX86_64 => {
            let name = library.to_ascii_lowercase();
            name.starts_with("api-ms-win-") || WINDOWS.contains(&name.as_str())
        }
        Platform::MacosAarch64 | Platform::MacosX86_64 => MACOS.contains(&library),
    }
}

fn mac_faults(facts: &Facts, faults: &mut Vec<String>) {
    match facts.oldest_macos {
        None => faults.push("it does not say which macOS it is made for".to_owned()),
        Some((major, minor)) if (major, minor) > NEWEST_MACOS => faults.push(format!("it needs macOS {major}.{minor}")),
        Some(_) => {}
    }
    let Some(signature) = &facts.signature else {
        faults.push("it is not signed".to_owned());
        return;
    };
    if !signature.ad_hoc {
        faults.push("its signature claims a certificate".to_owned());
    }
    if signature.covered_bytes != signature.offset {
        faults.push("its signature does not cover everything before it".to_owned());
    }
    if let Some(page) = signature.wrong_pages.first() {
        let wrong = signature.wrong_pages.len();
        faults.push(format!("{wrong} of {} page hashes are wrong, the first that of page {page}", signature.pages));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::signature::Signature;

    fn linux() -> Facts {
        Facts {
            libraries: vec!["libc.so.6".to_owned(), "libm.so.6".to_owned()],
            loader: Some("/lib64/ld-linux-x86-64.so.2".to_owned()),
            newest_glibc: Some((2, 17)),
            ..Facts::default()
        }
    }

    fn mac() -> Facts {
        let signature =
            Signature { ad_hoc: true, covered_bytes: 9, offset: 9, end: 20, pages: 1, wrong_pages: Vec::new() };
        Facts {
            libraries: vec!["/usr/lib/libSystem.B.dylib".to_owned()],
            oldest_macos: Some((11, 0)),
            signature: Some(signature),
            ..Facts::default()
        }
    }

    fn assert_fault(platform: Platform, facts: &Facts, part: &str) {
        let lines = faults(platform, facts);
        assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:?}");
    }

    #[test]
    fn requirements_that_every_system_meets_are_accepted() {
        assert!(faults(Platform::LinuxX86_64, &linux()).is_empty());
        assert!(faults(Platform::LinuxX86_64Static, &Facts::default()).is_empty());
        assert!(faults(Platform::MacosAarch64, &mac()).is_empty());
        let libraries = vec!["KERNEL32.dll".to_owned(), "api-ms-win-crt-heap-l1-1-0.dll".to_owned()];
        assert!(faults(Platform::WindowsX86_64, &Facts { libraries, ..Facts::default() }).is_empty());
    }

    #[test]
    fn each_fault_is_reported() {
        use Platform::*;
        assert_fault(LinuxX86_64, &Facts { newest_glibc: Some((2, 34)), ..linux() }, "glibc 2.34");
        assert_fault(LinuxX86_64, &Facts { loader: None, ..linux() }, "the system alone");
        assert_fault(LinuxX86_64Static, &linux(), "needs libc.so.6");
        assert_fault(LinuxAarch64, &linux(), "ld-linux-x86-64");
        let with = |library: &str| Facts { libraries: vec![library.to_owned()], ..Facts::default() };
        assert_fault(LinuxX86_64, &Facts { libraries: vec!["libssl.so.3".to_owned()], ..linux() }, "libssl");
        assert_fault(WindowsX86_64, &with("libunwind.dll"), "libunwind");
        assert_fault(MacosX86_64, &with("/opt/homebrew/lib/libz.dylib"), "homebrew");
        assert_fault(WindowsX86_64, &Facts { oddities: vec!["odd".to_owned()], ..Facts::default() }, "odd");

        assert_fault(MacosAarch64, &Facts { oldest_macos: Some((14, 2)), ..mac() }, "macOS 14.2");
        assert_fault(MacosAarch64, &Facts { oldest_macos: None, ..mac() }, "which macOS");
        assert_fault(MacosAarch64, &Facts { signature: None, ..mac() }, "not signed");
        let signed = |change: fn(&mut Signature)| {
            let mut facts = mac();
            change(facts.signature.as_mut().unwrap());
            facts
        };
        assert_fault(MacosAarch64, &signed(|signature| signature.ad_hoc = false), "certificate");
        assert_fault(MacosAarch64, &signed(|signature| signature.covered_bytes = 8), "does not cover");
        assert_fault(MacosAarch64, &signed(|signature| signature.wrong_pages = vec![3, 4]), "first that of page 3");
    }

    #[test]
    fn facts_of_the_test_program_list_its_libraries() {
        let Some(host) = Platform::host() else { return };
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let facts = Facts::read(host, &program).unwrap();
        if host == Platform::LinuxX86_64 {
            assert!(facts.libraries.iter().any(|library| library == "libc.so.6"), "{facts:?}");
            assert!(facts.newest_glibc.is_some_and(|version| version > (2, 3)), "{facts:?}");
        }
        assert!(check(host, b"\x7fELF").is_err());
        let other = if host == Platform::MacosX86_64 { Platform::LinuxAarch64 } else { Platform::MacosX86_64 };
        assert_eq!(check(other, &program).unwrap_err(), [format!("it is for {host}")]);
    }
}
