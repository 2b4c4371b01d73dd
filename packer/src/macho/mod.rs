//! The signable form for macOS: the payload in a segment of its own, so that a signature covers all of the file.
//!
//! ```text
//! 0           headers, __TEXT, __DATA…   of the runtime, with one load command more
//! segment     __SATCHEL                  the bundle, its offsets counted from the start of the file
//! after it    __LINKEDIT                 moved; ends with the signature, as `codesign` requires
//! ```
//!
//! `codesign` and notarisation refuse a file with bytes outside of any segment, such as a payload appended to the program.
//! Zip tools look for their directory at the end of a file and do not find it in this form.
//! Formats: Apple's `mach-o/loader.h` and `kern/cs_blobs.h`.

mod commands;
mod signature;

use std::fs::File;

use crate::copy::Stopped;
use crate::files::write_all_at;
use crate::{Error, Observer, Program};
use commands::Commands;

/// Segment alignment: the page size of arm64, the larger of the two.
pub(crate) const PAGE_BYTES: u64 = 16 * 1024;

/// What follows the payload's segment.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// `__LINKEDIT` without its signature.
    linkedit: Vec<u8>,
    /// Its new file offset.
    offset: u64,
    /// Length of `__TEXT` in the file, which the signature contains.
    text_bytes: u64,
    identifier: String,
}

/// Length of the program before the payload in this form.
///
/// # Errors
/// The program is not a Mach-O that can be extended.
pub(crate) fn program_bytes(program: &Program) -> Result<u64, Error> {
    let content = program.content()?;
    let commands = Commands::read(&content).map_err(|line| unfit(program, line))?;
    Ok(commands.linkedit.offset.next_multiple_of(PAGE_BYTES))
}

/// The program with a segment for a bundle that ends at `bundle_end`.
///
/// # Errors
/// The program is not a Mach-O that can be extended, or the file would exceed the format's limit.
pub(crate) fn with_segment(program: &Program, bundle_end: u64) -> Result<Program, Error> {
    let mut content = program.content()?;
    let parts = build(&mut content, bundle_end).map_err(|line| unfit(program, line))?;
    let mut made = Program::in_memory(&program.path, content);
    made.ending = Some(parts);
    Ok(made)
}

fn unfit(program: &Program, line: String) -> Error {
    Error::unfit(&program.path, format!("cannot be made into the signable form: {line}"))
}

fn build(content: &mut Vec<u8>, bundle_end: u64) -> Result<Ending, String> {
    let commands = Commands::read(content)?;
    let begin = commands.linkedit.offset.next_multiple_of(PAGE_BYTES);
    let offset = bundle_end.next_multiple_of(PAGE_BYTES);
    let linkedit_end = commands.signature.unwrap_or(commands.linkedit.offset + commands.linkedit.bytes);
    let linkedit = content
        .get(commands.linkedit.offset as usize..linkedit_end as usize)
        .ok_or("its signature lies outside __LINKEDIT")?
        .to_vec();
    let signed_end = signature::begin(offset + linkedit.len() as u64);
    let identifier = "satchel".to_owned();
    let signature_bytes = signature::bytes(signed_end, &identifier);
    if signed_end + signature_bytes > u64::from(u32::MAX) {
        return Err("with this model the file would have 4 GiB or more, beyond the offsets of a Mach-O; \
                    use the native form, or a smaller model"
            .to_owned());
    }
    content.truncate(commands.linkedit.offset as usize);
    content.resize(begin as usize, 0);
    commands.write(content, begin, bundle_end, offset, signed_end, signature_bytes)?;
    Ok(Ending { linkedit, offset, text_bytes: commands.text_bytes, identifier })
}

/// For the fuzz targets: the program's head in this form, for a bundle of `bundle_bytes`.
///
/// # Errors
/// The program is not a Mach-O that can be extended.
#[cfg(fuzzing)]
pub fn head_for_signing(program: &[u8], bundle_bytes: u64) -> Result<Vec<u8>, String> {
    let mut content = program.to_vec();
    let begin = Commands::read(&content)?.linkedit.offset.next_multiple_of(PAGE_BYTES);
    build(&mut content, begin + bundle_bytes)?;
    Ok(content)
}

impl Ending {
    /// Writes what follows the payload, then the signature over everything. Returns the file's length.
    pub(crate) fn write(&self, file: &File, observer: &dyn Observer) -> Result<u64, Stopped> {
        write_all_at(file, &self.linkedit, self.offset).map_err(Stopped::Write)?;
        let signed_end = signature::begin(self.offset + self.linkedit.len() as u64);
        file.set_len(signed_end).map_err(Stopped::Write)?;
        let signature = signature::of_file(file, signed_end, &self.identifier, self.text_bytes, observer)?;
        write_all_at(file, &signature, signed_end).map_err(Stopped::Write)?;
        Ok(signed_end + signature.len() as u64)
    }
}

#[cfg(test)]
mod tests;
