//! The load commands of a 64-bit little-endian Mach-O: moves everything that refers to `__LINKEDIT`, and adds a segment.

use super::PAGE_BYTES;

const HEADER_BYTES: usize = 32;
const MAGIC_64: u32 = 0xfeed_facf;
const SEGMENT_64: u32 = 0x19;
const SEGMENT_BYTES: usize = 72;
const SECTION_BYTES: usize = 80;
const SYMTAB: u32 = 0x2;
const DYSYMTAB: u32 = 0xb;
const DYLD_INFO: u32 = 0x22;
const DYLD_INFO_ONLY: u32 = 0x8000_0022;
const CODE_SIGNATURE: u32 = 0x1d;
const CHAINED_FIXUPS: u32 = 0x8000_0034;
/// Commands of the form `linkedit_data_command`, except the signature: split info, function starts, data in code,
/// designated requirements, optimisation hints, exports trie.
const LINKEDIT_DATA: [u32; 6] = [0x1e, 0x26, 0x29, 0x2b, 0x2e, 0x8000_0033];
/// `VM_PROT_READ`.
const READ_ONLY: u32 = 1;

/// The segment's name; `satchel_container` looks for it.
const SEGMENT_NAME: &[u8] = satchel_container::MACHO_SEGMENT;

/// Where `__LINKEDIT` lies: its load command, its address, and its range in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linkedit {
    command: usize,
    address: u64,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// The fields that have to change, by offset in the file.
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) linkedit: Linkedit,
    /// File offset of the old signature.
    pub(super) signature: Option<u64>,
    /// Length of `__TEXT` in the file.
    pub(super) text_bytes: u64,
    /// Positions of 32-bit file offsets that point into `__LINKEDIT`.
    offsets: Vec<usize>,
    signature_command: Option<usize>,
    end: usize,
    /// File offset of the first section's data: load commands may grow up to there.
    room_end: u64,
}

impl Commands {
    pub(super) fn read(content: &[u8]) -> Result<Self, String> {
        if u32_at(content, 0)? != MAGIC_64 {
            return Err("it is not a 64-bit Mach-O program".to_owned());
        }
        let mut found = Self {
            linkedit: Linkedit { command: 0, address: 0, offset: 0, bytes: 0 },
            signature: None,
            text_bytes: 0,
            offsets: Vec::new(),
            signature_command: None,
            end: HEADER_BYTES + u32_at(content, 20)? as usize,
            room_end: u64::MAX,
        };
        if found.end > content.len() {
            return Err("its load commands are truncated".to_owned());
        }
        let mut at = HEADER_BYTES;
        for _ in 0..u32_at(content, 16)? {
            let bytes = u32_at(content, at + 4)? as usize;
            if bytes < 8 || at + bytes > found.end {
                return Err("its load commands are damaged".to_owned());
            }
            found.command(&content[at..at + bytes], at)?;
            at += bytes;
        }
        let linkedit = &found.linkedit;
        if linkedit.command == 0 {
            return Err("it has no __LINKEDIT segment".to_owned());
        }
        let end = linkedit.offset.checked_add(linkedit.bytes);
        if linkedit.offset < found.end as u64 || end.is_none_or(|end| end > content.len() as u64) {
            return Err("__LINKEDIT lies outside the file".to_owned());
        }
        found.room_end = found.room_end.min(linkedit.offset);
        Ok(found)
    }

    /// Records the relevant fields of `command`, which lies at `at`.
    fn command(&mut self, command: &[u8], at: usize) -> Result<(), String> {
        let fields: &[usize] = match u32_at(command, 0)? {
            SEGMENT_64 => return self.segment(command, at),
            CHAINED_FIXUPS => {
                return Err(
                    "it has chained fixups, which depend on the number of segments: link it without them".to_owned()
                );
            }
            CODE_SIGNATURE => {
                u32_at(command, 12)?; // bounds check: `write` updates the length
                self.signature = Some(u64::from(u32_at(command, 8)?));
                self.signature_command = Some(at);
                return Ok(());
            }
            SYMTAB => &[8, 16],
            DYSYMTAB => &[32, 40, 48, 56, 64, 72],
            DYLD_INFO | DYLD_INFO_ONLY => &[8, 16, 24, 32, 40],
            kind if LINKEDIT_DATA.contains(&kind) => &[8],
            _ => &[],
        };
        for field in fields {
            // Zero means there is no such table.
            if u32_at(command, *field)? != 0 {
                self.offsets.push(at + field);
            }
        }
        Ok(())
    }

    fn segment(&mut self, command: &[u8], at: usize) -> Result<(), String> {
        let name = command.get(8..24).ok_or("its load commands are truncated")?;
        let (address, offset, bytes) = (u64_at(command, 24)?, u64_at(command, 40)?, u64_at(command, 48)?);
        if name.starts_with(b"__LINKEDIT\0") {
            self.linkedit = Linkedit { command: at, address, offset, bytes };
        }
        if name.starts_with(b"__TEXT\0") {
            self.text_bytes = bytes;
        }
        for section in 0..u32_at(command, 64)? as usize {
            let begin = u64::from(u32_at(command, SEGMENT_BYTES + section * SECTION_BYTES + 48)?);
            if begin != 0 {
                self.room_end = self.room_end.min(begin);
            }
        }
        Ok(())
    }

    /// Updates the commands for a payload segment from `begin` to `end`, with `__LINKEDIT` moved to `offset` after it.
    pub(super) fn write(
        &self,
        content: &mut [u8],
        begin: u64,
        end: u64,
        offset: u64,
        signed_end: u64,
        signature_bytes: u64,
    ) -> Result<(), String> {
        let signature_command = self.signature_command.ok_or("it has no ad-hoc signature to replace")?;
        if (self.end + SEGMENT_BYTES) as u64 > self.room_end {
            return Err("there is no room for a load command: link it with a larger -headerpad".to_owned());
        }
        let moved = offset - self.linkedit.offset;
        for at in &self.offsets {
            let old = u32_at(content, *at)?;
            put_u32(content, *at, u32::try_from(u64::from(old) + moved).map_err(|error| error.to_string())?);
        }
        put_u32(content, signature_command + 8, signed_end as u32);
        put_u32(content, signature_command + 12, signature_bytes as u32);
        let payload_memory = (end - begin).next_multiple_of(PAGE_BYTES);
        let linkedit_bytes = signed_end + signature_bytes - offset;
        let at = self.linkedit.command;
        let address = self.linkedit.address.checked_add(payload_memory).ok_or("__LINKEDIT has no address")?;
        put_u64(content, at + 24, address);
        put_u64(content, at + 32, linkedit_bytes.next_multiple_of(PAGE_BYTES));
        put_u64(content, at + 40, offset);
        put_u64(content, at + 48, linkedit_bytes);
        // The new command goes before that of __LINKEDIT, which must stay the last segment.
        content.copy_within(at..self.end, at + SEGMENT_BYTES);
        let command = &mut content[at..at + SEGMENT_BYTES];
        command.fill(0);
        put_u32(command, 0, SEGMENT_64);
        put_u32(command, 4, SEGMENT_BYTES as u32);
        command[8..8 + SEGMENT_NAME.len()].copy_from_slice(SEGMENT_NAME);
        put_u64(command, 24, self.linkedit.address);
        put_u64(command, 32, payload_memory);
        put_u64(command, 40, begin);
        put_u64(command, 48, end - begin);
        put_u32(command, 56, READ_ONLY);
        put_u32(command, 60, READ_ONLY);
        let count = u32_at(content, 16)?;
        put_u32(content, 16, count + 1);
        put_u32(content, 20, (self.end - HEADER_BYTES + SEGMENT_BYTES) as u32);
        Ok(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    let field = bytes.get(at..at + 4).ok_or("its load commands are truncated")?;
    Ok(u32::from_le_bytes([field[0], field[1], field[2], field[3]]))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, String> {
    Ok(u64::from(u32_at(bytes, at)?) | u64::from(u32_at(bytes, at + 4)?) << 32)
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
