//! Kept prefixes as bytes, to go on from after a restart.
//!
//! A header names the format and what the states are bound to (model, kernels, cache types: anything else gives other bits). Then
//! comes each block: its place in the tree, its tokens and pages. Header and blocks end with their SHA-256. A file is read twice:
//! first it is checked as a whole, then it is used, so that of a damaged one nothing is.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::cache::StateCache;
use super::prefix::{EVERYONE, Node, NodeId};
use crate::TokenId;
use crate::device::{DeviceError, Program};
use crate::plan::{BLOCK_TOKENS, PageId, StateGroup, StateLayout};

/// Begins a file; the last character is the version of the format.
const MAGIC: &[u8; 16] = b"satchel states 1";

/// What states are bound to: a hash of everything that makes them what they are.
pub type Identity = [u8; 32];

/// The parent of a block that has none.
const NO_PARENT: u32 = u32::MAX;

/// Why a file was not used, as the end of a sentence about it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is no file of kept conversations")]
    Foreign,
    /// It was written with another model or other settings.
    #[error("it belongs to another model, or to other settings, kernels or cache types")]
    Other,
    /// A hash does not match, or a block makes no sense.
    #[error("it is damaged")]
    Damaged,
}

/// A block of the tree between file and cache.
struct Block {
    parent: u32,
    owner: u64,
    used: u64,
    tokens: Vec<TokenId>,
    pages: Vec<Option<Vec<u8>>>,
    checkpoints: Vec<(usize, Vec<Option<Vec<u8>>>)>,
}

impl StateCache {
    /// Writes the kept prefixes of these owners; gives how many blocks.
    ///
    /// # Errors
    /// If they cannot be written, or the device does not give its pages.
    pub fn save(
        &self,
        program: &dyn Program,
        identity: &Identity,
        owners: &[u64],
        out: &mut dyn Write,
    ) -> Result<usize, FileError> {
        let order = self.prefixes.parents_first(owners);
        let mut header = MAGIC.to_vec();
        header.extend(identity);
        header.extend((order.len() as u32).to_le_bytes());
        write_checked(out, &header)?;
        let places: HashMap<NodeId, u32> = (0..).zip(&order).map(|(at, &node)| (node, at)).collect();
        for &node in &order {
            let node = self.prefixes.node(node);
            let parent = node.parent.map_or(NO_PARENT, |parent| places[&parent]);
            let body = encode(program, node, parent).map_err(|error| io::Error::other(error.to_string()))?;
            out.write_all(&(body.len() as u64).to_le_bytes())?;
            write_checked(out, &body)?;
        }
        Ok(order.len())
    }

    /// Takes what a file has kept into an empty cache, as far as there is room; gives how many blocks. `open` is called twice.
    ///
    /// # Errors
    /// If the file cannot be used; nothing of it is then.
    pub fn load<R: Read>(
        &mut self,
        program: &mut dyn Program,
        identity: &Identity,
        open: impl Fn() -> io::Result<R>,
    ) -> Result<usize, FileError> {
        let layout = self.layout().clone();
        let mut count = 0;
        read(&mut open()?, identity, &layout, |at, block| {
            count += 1;
            block.parent == NO_PARENT || (block.parent as usize) < at
        })?;
        let mut nodes: Vec<Option<NodeId>> = Vec::with_capacity(count);
        read(&mut open()?, identity, &layout, |_, block| {
            // Without its parent's, a block's state is of no use.
            let parent = match block.parent {
                NO_PARENT => Some(None),
                parent => nodes.get(parent as usize).copied().flatten().map(Some),
            };
            let node = parent.and_then(|parent| self.place(program, parent, block));
            nodes.push(node);
            true
        })?;
        Ok(nodes.iter().flatten().count())
    }

    /// Takes a prefix that was computed elsewhere, for everyone, as far as there is room; gives how many of its tokens are there now.
    /// The bytes come with a bundle: only blocks of just these tokens are taken, so that they stand for no other text.
    ///
    /// # Errors
    /// If they cannot be used; nothing of them is then.
    pub fn load_shared(
        &mut self,
        program: &mut dyn Program,
        identity: &Identity,
        tokens: &[TokenId],
        bytes: &[u8],
    ) -> Result<usize, FileError> {
        let layout = self.layout().clone();
        let mut blocks = tokens.chunks(BLOCK_TOKENS);
        read(&mut &bytes[..], identity, &layout, |at, block| {
            let parent = at.checked_sub(1).map_or(NO_PARENT, |before| before as u32);
            block.owner == EVERYONE && block.parent == parent && blocks.next() == Some(&block.tokens)
        })?;
        if blocks.next().is_some() {
            return Err(FileError::Damaged);
        }
        let (mut last, mut known, mut has_room) = (None, 0, true);
        read(&mut &bytes[..], identity, &layout, |_, block| {
            let there = self.prefixes.child(EVERYONE, last, &block.tokens).filter(|_| has_room);
            match there.or_else(|| has_room.then(|| self.place(program, last, block)).flatten()) {
                Some(node) => {
                    self.prefixes.touch(node);
                    last = Some(node);
                    known += block.tokens.len();
                }
                None => has_room = false,
            }
            true
        })?;
        Ok(known)
    }

    /// Puts a block into the tree; `None`: there is no room for it.
    fn place(&mut self, program: &mut dyn Program, parent: Option<NodeId>, block: &Block) -> Option<NodeId> {
        let pages = self.fill_pages(program, &block.pages)?;
        let mut checkpoints = Vec::new();
        for (tokens, pages) in &block.checkpoints {
            if let Some(pages) = self.fill_pages(program, pages) {
                checkpoints.push((*tokens, pages));
            }
        }
        let node = self.prefixes.insert(block.owner, parent, &block.tokens, pages);
        self.prefixes.node_mut(node).checkpoints = checkpoints;
        self.prefixes.set_used(node, block.used);
        Some(node)
    }

    fn fill_pages(&mut self, program: &mut dyn Program, contents: &[Option<Vec<u8>>]) -> Option<Vec<Option<PageId>>> {
        let mut pages = vec![None; contents.len()];
        for (group, content) in contents.iter().enumerate() {
            let Some(content) = content else { continue };
            let filled = self.take_free(program, group).filter(|&page| {
                pages[group] = Some(page);
                program.write_page(group, page, content).is_ok()
            });
            if filled.is_none() {
                self.release_pages(program, &pages);
                return None;
            }
        }
        Some(pages)
    }
}

/// Whether a file is empty, or begins as those of kept prefixes do, of whatever version.
///
/// # Errors
/// If it cannot be read.
pub fn is_state_file(input: &mut dyn Read) -> io::Result<bool> {
    let mut begun = Vec::new();
    (&mut *input).take(MAGIC.len() as u64 - 1).read_to_end(&mut begun)?;
    Ok(begun.is_empty() || begun == MAGIC[..MAGIC.len() - 1])
}

fn write_checked(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.write_all(&Sha256::digest(bytes))
}

fn encode(program: &dyn Program, node: &Node, parent: u32) -> Result<Vec<u8>, DeviceError> {
    let mut body = Vec::new();
    body.extend(parent.to_le_bytes());
    body.extend(node.owner().to_le_bytes());
    body.extend(node.used().to_le_bytes());
    body.push(node.tokens.len() as u8);
    node.tokens.iter().for_each(|token| body.extend(token.to_le_bytes()));
    encode_pages(program, &node.pages, &mut body)?;
    body.push(node.checkpoints.len().min(255) as u8);
    for (tokens, pages) in node.checkpoints.iter().take(255) {
        body.push(*tokens as u8);
        encode_pages(program, pages, &mut body)?;
    }
    Ok(body)
}

/// For each group the length of its page and the page; a length of 0 where it has none.
fn encode_pages(program: &dyn Program, pages: &[Option<PageId>], body: &mut Vec<u8>) -> Result<(), DeviceError> {
    for (group, page) in pages.iter().enumerate() {
        let at = body.len();
        body.extend(0u32.to_le_bytes());
        if let &Some(page) = page {
            program.read_page(group, page, body)?;
            let length = (body.len() - at - 4) as u32;
            body[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
    }
    Ok(())
}

/// Reads a file, block by block; `take` says whether a block makes sense.
fn read(
    input: &mut dyn Read,
    identity: &Identity,
    layout: &StateLayout,
    mut take: impl FnMut(usize, &Block) -> bool,
) -> Result<(), FileError> {
    let header = read_checked(input, MAGIC.len() + identity.len() + 4).map_err(|error| match error {
        FileError::Damaged => FileError::Foreign,
        other => other,
    })?;
    let (magic, rest) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(FileError::Foreign);
    }
    let (bound, count) = rest.split_at(identity.len());
    if bound != identity {
        return Err(FileError::Other);
    }
    let count = u32::from_le_bytes(count.try_into().expect("four bytes"));
    for at in 0..count as usize {
        let mut length = [0; 8];
        input.read_exact(&mut length).map_err(cut)?;
        let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| FileError::Damaged)?;
        let body = read_checked(input, length)?;
        let block = decode(&mut &body[..], layout).ok_or(FileError::Damaged)?;
        if !take(at, &block) {
            return Err(FileError::Damaged);
        }
    }
    match input.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(FileError::Damaged),
    }
}

fn cut(error: io::Error) -> FileError {
    if error.kind() == io::ErrorKind::UnexpectedEof { FileError::Damaged } else { FileError::Io(error) }
}

/// Bytes and their hash. Memory grows with what is there, not with what a damaged length says.
fn read_checked(input: &mut dyn Read, length: usize) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    (&mut *input).take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(FileError::Damaged);
    }
    let mut hash = [0; 32];
    input.read_exact(&mut hash).map_err(cut)?;
    if hash[..] != Sha256::digest(&bytes)[..] {
        return Err(FileError::Damaged);
    }
    Ok(bytes)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    bytes.split_off(..count)
}

fn decode(bytes: &mut &[u8], layout: &StateLayout) -> Option<Block> {
    let parent = u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?);
    let owner = u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?);
    let used = u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?);
    let count = usize::from(*bytes.split_off_first()?);
    let tokens = take(bytes, count * 4)?.as_chunks::<4>().0.iter().map(|token| TokenId::from_le_bytes(*token));
    let tokens: Vec<TokenId> = tokens.collect();
    let pages = decode_pages(bytes, layout, false)?;
    let checkpoints = (0..*bytes.split_off_first()?).map(|_| {
        let tokens = usize::from(*bytes.split_off_first()?);
        let within = (1..=count).contains(&tokens);
        Some((tokens, decode_pages(bytes, layout, true).filter(|_| within)?))
    });
    let checkpoints = checkpoints.collect::<Option<Vec<_>>>()?;
    let fits = (1..=BLOCK_TOKENS).contains(&count) && bytes.is_empty();
    fits.then_some(Block { parent, owner, used, tokens, pages, checkpoints })
}

/// A page for each group, of which the recurrent ones have theirs in checkpoints and all of them there.
fn decode_pages(bytes: &mut &[u8], layout: &StateLayout, checkpoint: bool) -> Option<Vec<Option<Vec<u8>>>> {
    let page = |recurrent: bool| {
        let length = u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?) as usize;
        let fits = if checkpoint { (length > 0) == recurrent } else { length == 0 || !recurrent };
        match (fits, length) {
            (false, _) => None,
            (true, 0) => Some(None),
            (true, _) => Some(Some(take(bytes, length)?.to_vec())),
        }
    };
    layout.groups.iter().map(StateGroup::is_recurrent).map(page).collect()
}
