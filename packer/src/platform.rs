//! The platforms that Satchel makes executables for: names, and detection of a program's platform.
//!
//! [`Platform::detect`] reads the platform from a program's headers, and so works on packed files, too. Whether a program is
//! fit for distribution is a separate question; see [`check`].

mod check;
mod facts;
mod signature;

use std::fmt;
use std::str::FromStr;

use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::read::macho::MachHeader as _;
use object::read::pe::PeFile64;
use object::{Endianness, FileKind, elf, macho, pe};

pub use check::{RUNTIME_MAX_BYTES, check};
pub use facts::Facts;
pub use signature::Signature;

/// A system and a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Platform {
    /// Linux on x86-64, with glibc 2.17 or newer.
    LinuxX86_64,
    /// Linux on x86-64, statically linked: for musl systems and empty containers.
    LinuxX86_64Static,
    /// Linux on 64-bit ARM, with glibc 2.17 or newer.
    LinuxAarch64,
    /// Windows 10 or newer on x86-64.
    WindowsX86_64,
    /// macOS 11 or newer on Apple silicon.
    MacosAarch64,
    /// macOS 11 or newer on Intel processors.
    MacosX86_64,
}

impl Platform {
    /// All platforms, in display order.
    pub const ALL: [Self; 6] = [
        Self::LinuxX86_64,
        Self::LinuxX86_64Static,
        Self::LinuxAarch64,
        Self::WindowsX86_64,
        Self::MacosAarch64,
        Self::MacosX86_64,
    ];

    /// The name used on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::LinuxX86_64 => "linux-x86_64",
            Self::LinuxX86_64Static => "linux-x86_64-static",
            Self::LinuxAarch64 => "linux-aarch64",
            Self::WindowsX86_64 => "windows-x86_64",
            Self::MacosAarch64 => "macos-aarch64",
            Self::MacosX86_64 => "macos-x86_64",
        }
    }

    /// Suffix of an executable's file name.
    pub fn exe_suffix(self) -> &'static str {
        if self == Self::WindowsX86_64 { ".exe" } else { "" }
    }

    /// The platform this code was compiled for; `None` if Satchel makes no runtime for it.
    pub fn host() -> Option<Self> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") if cfg!(target_env = "musl") => Some(Self::LinuxX86_64Static),
            ("linux", "x86_64") => Some(Self::LinuxX86_64),
            ("linux", "aarch64") => Some(Self::LinuxAarch64),
            ("windows", "x86_64") => Some(Self::WindowsX86_64),
            ("macos", "aarch64") => Some(Self::MacosAarch64),
            ("macos", "x86_64") => Some(Self::MacosX86_64),
            _ => None,
        }
    }

    /// Platform of the program at the start of `bytes`, from its headers alone. `None` if it is not an executable for any
    /// of them.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        match FileKind::parse(bytes).ok()? {
            FileKind::Elf64 => detect_elf(bytes),
            FileKind::Pe64 => {
                let header = PeFile64::parse(bytes).ok()?.nt_headers().file_header;
                let machine = header.machine.get(object::LittleEndian);
                let flags = header.characteristics.get(object::LittleEndian);
                let program = flags.contains(pe::IMAGE_FILE_EXECUTABLE_IMAGE) && !flags.contains(pe::IMAGE_FILE_DLL);
                (machine == pe::IMAGE_FILE_MACHINE_AMD64 && program).then_some(Self::WindowsX86_64)
            }
            FileKind::MachO64 => {
                let header = macho::MachHeader64::<Endianness>::parse(bytes, 0).ok()?;
                let endian = header.endian().ok().filter(|endian| *endian == Endianness::Little)?;
                match (header.filetype(endian), header.cputype(endian)) {
                    (macho::MH_EXECUTE, macho::CPU_TYPE_ARM64) => Some(Self::MacosAarch64),
                    (macho::MH_EXECUTE, macho::CPU_TYPE_X86_64) => Some(Self::MacosX86_64),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

fn detect_elf(bytes: &[u8]) -> Option<Platform> {
    let header = elf::FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok().filter(|endian| *endian == Endianness::Little)?;
    if !matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN)
        || !matches!(header.e_ident().os_abi, elf::ELFOSABI_SYSV | elf::ELFOSABI_LINUX)
    {
        return None;
    }
    let segments = header.program_headers(endian, bytes).ok()?;
    // Dynamically linked programs have an interpreter.
    let loaded = segments.iter().any(|segment| segment.p_type(endian) == elf::PT_INTERP);
    // A shared library has no entry point.
    if header.e_entry(endian) == 0 {
        return None;
    }
    match (header.e_machine(endian), loaded) {
        (elf::EM_X86_64, true) => Some(Platform::LinuxX86_64),
        (elf::EM_X86_64, false) => Some(Platform::LinuxX86_64Static),
        (elf::EM_AARCH64, true) => Some(Platform::LinuxAarch64),
        _ => None,
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name of no known platform.
#[derive(Debug, thiserror::Error)]
#[error("unknown platform `{0}`; known are {names}", names = Platform::ALL.map(Platform::name).join(", "))]
pub struct UnknownPlatform(String);

impl FromStr for Platform {
    type Err = UnknownPlatform;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|platform| platform.name() == name).ok_or_else(|| UnknownPlatform(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    /// An ELF header and one program header.
    fn elf(kind: elf::FileType, machine: elf::Machine, segment: elf::ProgramType) -> Vec<u8> {
        let mut bytes = vec![0; 120];
        put(&mut bytes, 0, b"\x7fELF\x02\x01\x01");
        for (at, value) in [(16, kind.0), (18, machine.0), (20, 1), (52, 64), (54, 56), (56, 1)] {
            put(&mut bytes, at, &value.to_le_bytes());
        }
        put(&mut bytes, 24, &0x1000_u64.to_le_bytes());
        put(&mut bytes, 32, &64_u64.to_le_bytes());
        put(&mut bytes, 64, &segment.0.to_le_bytes());
        bytes
    }

    /// A DOS header, a PE header and an optional header without sections.
    fn pe(machine: pe::Machine, flags: pe::FileFlags) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 24 + 112];
        put(&mut bytes, 0, b"MZ");
        put(&mut bytes, 60, &64_u32.to_le_bytes());
        put(&mut bytes, 64, b"PE\0\0");
        for (at, value) in [(68, machine.0), (84, 112), (86, flags.0), (88, pe::IMAGE_NT_OPTIONAL_HDR64_MAGIC)] {
            put(&mut bytes, at, &value.to_le_bytes());
        }
        bytes
    }

    fn mach(magic: u32, cpu: macho::CpuType, kind: macho::FileType) -> Vec<u8> {
        [magic, cpu.0, 0, kind.0, 0, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn the_platform_is_detected_from_headers() {
        use Platform::*;
        let (dynamic, load) = (elf::PT_INTERP, elf::PT_LOAD);
        let (x86, arm) = (macho::CPU_TYPE_X86_64, macho::CPU_TYPE_ARM64);
        let program = pe::IMAGE_FILE_EXECUTABLE_IMAGE;
        let mut big_endian = elf(elf::ET_DYN, elf::EM_X86_64, dynamic);
        big_endian[5] = 2;
        for (bytes, expected) in [
            (elf(elf::ET_DYN, elf::EM_X86_64, dynamic), Some(LinuxX86_64)),
            (elf(elf::ET_EXEC, elf::EM_X86_64, load), Some(LinuxX86_64Static)),
            (elf(elf::ET_DYN, elf::EM_AARCH64, dynamic), Some(LinuxAarch64)),
            (elf(elf::ET_DYN, elf::EM_AARCH64, load), None),
            (elf(elf::ET_DYN, elf::EM_RISCV, dynamic), None),
            (elf(elf::ET_REL, elf::EM_X86_64, dynamic), None),
            (big_endian, None),
            (pe(pe::IMAGE_FILE_MACHINE_AMD64, program), Some(WindowsX86_64)),
            (pe(pe::IMAGE_FILE_MACHINE_AMD64, program | pe::IMAGE_FILE_DLL), None),
            (pe(pe::IMAGE_FILE_MACHINE_ARM64, program), None),
            (mach(macho::MH_MAGIC_64, arm, macho::MH_EXECUTE), Some(MacosAarch64)),
            (mach(macho::MH_MAGIC_64, x86, macho::MH_EXECUTE), Some(MacosX86_64)),
            (mach(macho::MH_MAGIC_64, x86, macho::MH_DYLIB), None),
            (b"#!/bin/sh\nexit\n#".to_vec(), None),
        ] {
            assert_eq!(Platform::detect(&bytes), expected, "{:02x?}", &bytes[..24.min(bytes.len())]);
            for end in 0..bytes.len() {
                assert_eq!(Platform::detect(&bytes[..end]), None, "truncated to {end} bytes");
            }
        }
    }

    #[test]
    fn the_running_program_is_detected_as_the_host_platform() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(Platform::detect(&program), Platform::host());
    }

    #[test]
    fn names_round_trip_and_unknown_ones_are_refused_with_the_list() {
        for platform in Platform::ALL {
            assert_eq!(platform.name().parse::<Platform>().unwrap(), platform);
        }
        let line = "windows".parse::<Platform>().unwrap_err().to_string();
        assert!(line.contains("`windows`") && line.contains("windows-x86_64"), "{line}");
    }
}
