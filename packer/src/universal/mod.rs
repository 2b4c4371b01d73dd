//! One program for all platforms: Windows starts it as a PE image, every POSIX shell as a script.
//!
//! ```text
//! 0        MZsatchel='…'   the DOS header, which is a quotation to a shell
//! 64       the script      ends with `exec`; a shell reads no further
//! < 4096   PE headers      of the Windows runtime, followed by its sections
//! ...      runtimes/…      a bundle without a model: the native programs of all platforms, deflated
//! ```
//!
//! A payload follows it as it follows any program, so its hash is the same as in native files, and the native form for each
//! platform can be made from the file itself.

mod pe;
mod script;

use std::path::Path;

use satchel_container::directory::{self, Method};
use satchel_container::{Digest, layout};

use crate::plan::{Plan, Small, written_wrong};
use crate::platform::Platform;
use crate::runtimes::Runtimes;
use crate::{Error, Program};
use script::Carried;

/// The first bytes. Shells that inspect a file before running it as a script require a lower-case letter and no NUL in the
/// first line.
const OPENING: &[u8] = b"MZsatchel='\n";

/// Suffix of a universal file's name: Windows starts nothing else.
pub const EXE_SUFFIX: &str = ".exe";

/// The universal program, made of the runtimes of all platforms.
///
/// # Errors
/// A runtime is missing, damaged, or cannot be extended.
pub fn program(runtimes: &Runtimes, packed_by: &str) -> Result<Program, Error> {
    let all = Platform::ALL.map(|platform| Ok((platform, runtimes.program(platform)?.content()?)));
    let programs = all.into_iter().collect::<Result<Vec<_>, Error>>()?;
    let content = assemble(&programs, packed_by).map_err(|line| Error::unfit(runtimes.path(), line))?;
    Ok(Program::in_memory(runtimes.path(), content))
}

fn assemble(programs: &[(Platform, Vec<u8>)], packed_by: &str) -> Result<Vec<u8>, String> {
    let windows = programs.iter().find(|(platform, _)| *platform == Platform::WindowsX86_64);
    let (_, windows) = windows.ok_or("there is no program for Windows")?;
    let plan = Plan::of_runtimes(Runtimes::entries(programs), packed_by);
    // The script contains the programs' offsets but does not change the image's length: measure first, then write.
    let image_bytes = pe::with_script(windows, OPENING, "")?.len() as u64;
    let line = |error: satchel_container::Error| error.to_string();
    let offsets = layout::place(image_bytes, &plan.items()).map_err(line)?;
    let carried: Vec<Carried> = plan
        .small
        .iter()
        .zip(programs)
        .zip(&offsets)
        .filter(|((_, (platform, _)), _)| *platform != Platform::WindowsX86_64)
        .map(|((small, (platform, _)), offset)| carried(small, *platform, *offset))
        .collect::<Result<_, _>>()?;
    let image = pe::with_script(windows, OPENING, &script::script(&carried))?;
    let program = Digest::of(&image);
    let mut out = image;
    let mut records = Vec::new();
    for (small, header_offset) in plan.small.iter().zip(offsets) {
        let record = small.placed(header_offset);
        out.resize(header_offset as usize, 0);
        out.extend_from_slice(&directory::local_header(&record));
        out.extend_from_slice(&small.stored);
        records.push(record);
    }
    let end = out.len() as u64;
    let closing = layout::closing(&plan.manifest(&[]), records, end, program, image_bytes).map_err(line)?;
    out.extend_from_slice(&closing);
    Ok(out)
}

fn carried(small: &Small, platform: Platform, header_offset: u64) -> Result<Carried, String> {
    let record = small.placed(header_offset);
    if record.method != Method::Deflated {
        return Err(format!("the runtime for {platform} is not compressible, as a program should be"));
    }
    Ok(Carried {
        platform,
        offset: record.data_offset(),
        stored_bytes: record.stored_bytes,
        size: record.size,
        crc32: record.crc32,
        sha256: small.record.sha256.to_string(),
    })
}

/// For the fuzz targets: the image for Windows with a script, without runtimes.
///
/// # Errors
/// The image cannot be extended.
#[cfg(fuzzing)]
pub fn image_with_script(image: &[u8], script: &str) -> Result<Vec<u8>, String> {
    pe::with_script(image, OPENING, script)
}

/// Whether a file that begins with `head` starts with a universal program.
pub fn is_universal(head: &[u8]) -> bool {
    head.starts_with(OPENING)
}

/// The executable of a release: the runtime for `platform`, carrying those for the other platforms.
///
/// # Errors
/// The runtime for `platform` is missing, or the bundle cannot be written.
pub fn release(
    programs: &[(Platform, Vec<u8>)],
    platform: Platform,
    packed_by: &str,
    path: &Path,
) -> Result<(Plan, Program), Error> {
    let own = programs.iter().find(|(other, _)| *other == platform);
    let (_, own) = own.ok_or_else(|| Error::unfit(path, format!("there is no runtime for {platform}")))?;
    let others: Vec<_> = programs.iter().filter(|(other, _)| *other != platform).cloned().collect();
    let plan = Plan::of_runtimes(Runtimes::entries(&others), packed_by);
    plan.manifest(&[]).to_bytes().map_err(written_wrong)?;
    Ok((plan, Program::in_memory(path, own.clone())))
}
