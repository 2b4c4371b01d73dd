//! What a program requires of the system, read from its headers.
//!
//! This file only reports; `check.rs` judges. Input is the whole program without a bundle.

use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::read::macho::{MachHeader as _, MachOFile64};
use object::read::pe::PeFile64;
use object::{Endianness, LittleEndian, elf, macho, pe};

use super::Platform;
use super::signature::{self, Signature};

/// A program's requirements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Libraries needed at start-up, sorted: names on Linux and Windows, paths on macOS.
    pub libraries: Vec<String>,
    /// Linux: the dynamic loader (`PT_INTERP`).
    pub loader: Option<String>,
    /// Linux: the newest glibc symbol version that is needed.
    pub newest_glibc: Option<(u32, u32)>,
    /// macOS: the minimum version, from its load command.
    pub oldest_macos: Option<(u16, u8)>,
    /// macOS: the signature at its end.
    pub signature: Option<Signature>,
    /// Undesirable properties, a line each.
    pub oddities: Vec<String>,
}

impl Facts {
    /// Reads the facts of a program for `platform`.
    ///
    /// # Errors
    /// Headers that cannot be parsed, in one line.
    pub fn read(platform: Platform, program: &[u8]) -> Result<Self, String> {
        let mut facts = match platform {
            Platform::LinuxX86_64 | Platform::LinuxX86_64Static | Platform::LinuxAarch64 => read_elf(program),
            Platform::WindowsX86_64 => read_pe(program),
            Platform::MacosAarch64 | Platform::MacosX86_64 => return read_mach(program),
        }
        .map_err(|error| error.to_string())?;
        facts.libraries.sort();
        Ok(facts)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read_elf(program: &[u8]) -> object::Result<Facts> {
    let file = ElfFile64::<Endianness>::parse(program)?;
    let (endian, sections) = (file.endian(), file.elf_section_table());
    let mut facts = Facts::default();
    for segment in file.elf_program_headers() {
        if let Some(loader) = segment.interpreter(endian, program)? {
            facts.loader = Some(text(loader));
        }
        let flags = segment.p_flags(endian);
        if segment.p_type(endian) == elf::PT_GNU_STACK && flags.contains(elf::PF_X) {
            facts.oddities.push("its stack is executable".to_owned());
        }
        if segment.p_type(endian) == elf::PT_LOAD && flags.contains(elf::PF_W) && flags.contains(elf::PF_X) {
            facts.oddities.push("a segment is both writable and executable".to_owned());
        }
    }
    // Static programs are exempt: they would have to relocate themselves, which those linked by zig do not.
    if facts.loader.is_some() && file.elf_header().e_type(endian) != elf::ET_DYN {
        facts.oddities.push("it is loaded at a fixed address".to_owned());
    }
    let dynamic = sections.dynamic_table(endian, program)?;
    for entry in dynamic.iter() {
        match entry.tag {
            elf::DT_NEEDED => facts.libraries.push(text(dynamic.string(entry)?)),
            elf::DT_RPATH | elf::DT_RUNPATH => {
                facts.oddities.push(format!("it looks for libraries in {}", text(dynamic.string(entry)?)));
            }
            _ => {}
        }
    }
    if let Some((mut libraries, link)) = sections.gnu_verneed(endian, program)? {
        let strings = sections.strings(endian, program, link)?;
        while let Some((_, mut versions)) = libraries.next()? {
            while let Some(version) = versions.next()? {
                facts.newest_glibc = facts.newest_glibc.max(glibc_version(version.name(endian, strings)?));
            }
        }
    }
    Ok(facts)
}

/// `GLIBC_2.17` as numbers; a third number, as in `GLIBC_2.2.5`, is ignored.
fn glibc_version(name: &[u8]) -> Option<(u32, u32)> {
    let mut numbers = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?.split('.').map_while(|n| n.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn read_pe(program: &[u8]) -> object::Result<Facts> {
    let file = PeFile64::parse(program)?;
    let header = file.nt_headers();
    let mut facts = Facts::default();
    if let Some(imports) = file.import_table()? {
        let mut descriptors = imports.descriptors()?;
        while let Some(descriptor) = descriptors.next()? {
            facts.libraries.push(text(imports.name(descriptor.name.get(LittleEndian))?));
        }
    }
    let flags = header.optional_header.dll_characteristics.get(LittleEndian);
    for (flag, what) in [
        (pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, "it is loaded at a fixed address"),
        (pe::IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA, "its address is randomised within 2 GB only"),
        (pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT, "its data is executable"),
    ] {
        if !flags.contains(flag) {
            facts.oddities.push(what.to_owned());
        }
    }
    if header.optional_header.subsystem.get(LittleEndian) != pe::IMAGE_SUBSYSTEM_WINDOWS_CUI {
        facts.oddities.push("it is not a console program".to_owned());
    }
    if file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_RESOURCE).is_none_or(|part| part.size.get(LittleEndian) == 0) {
        facts.oddities.push("it has neither icon nor version block".to_owned());
    }
    if header.file_header.time_date_stamp.get(LittleEndian) != 0 {
        facts.oddities.push("it carries a time stamp, so its build is not reproducible".to_owned());
    }
    Ok(facts)
}

fn read_mach(program: &[u8]) -> Result<Facts, String> {
    let (mut facts, range) = read_mach_commands(program).map_err(|error| error.to_string())?;
    if let Some((offset, bytes)) = range {
        facts.signature = Some(signature::read(program, offset, bytes)?);
    }
    facts.libraries.sort();
    Ok(facts)
}

/// The facts without the signature, and the signature's offset and length.
fn read_mach_commands(program: &[u8]) -> object::Result<(Facts, Option<(u32, u32)>)> {
    let file = MachOFile64::<Endianness>::parse(program)?;
    let endian = file.endian();
    let mut facts = Facts::default();
    let mut signature = None;
    let mut commands = file.macho_load_commands()?;
    while let Some(command) = commands.next()? {
        if let Some(dylib) = command.dylib()? {
            facts.libraries.push(text(command.string(endian, dylib.dylib.name)?));
        }
        if let Some((version, _)) = command.build_version(endian)? {
            let oldest = version.minos.get(endian);
            facts.oldest_macos = Some((oldest.major(), oldest.minor()));
            if version.platform.get(endian) != macho::PLATFORM_MACOS {
                facts.oddities.push("it is built for another Apple system than macOS".to_owned());
            }
        }
        if command.cmd() == macho::LC_CODE_SIGNATURE {
            let place = command.data::<macho::LinkeditDataCommand<Endianness>>()?;
            signature = Some((place.dataoff.get(endian), place.datasize.get(endian)));
        }
        if command.cmd() == macho::LC_RPATH {
            facts.oddities.push("it has an LC_RPATH, which adds library folders".to_owned());
        }
    }
    if !file.macho_header().flags(endian).contains(macho::MH_PIE) {
        facts.oddities.push("it is loaded at a fixed address".to_owned());
    }
    Ok((facts, signature))
}
