//! POSIX ustar, both ways: regular files under plain names.
//!
//! The writer leaves no choice open: mode 0644, owner and time 0, two zero blocks at the end, so [`length`] is exact
//! before the first byte. The reader is pushed pieces of any size as they are decrypted and says which bytes of a piece
//! belong to which member; it takes no size or name from an extension record, because there is none that it reads
//! (spec/hostile-input H13), and it never writes anything. POSIX.1-2017 `pax`, "ustar Interchange Format".

use std::collections::HashMap;
use std::ops::Range;

use super::is_safe_name;
use crate::error::{Code, Error, Result};
use crate::limits;

/// Everything in a tar is a multiple of this.
pub const BLOCK: usize = 512;
/// The two zero blocks at the end.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// The longest member: eleven octal digits.
pub const MEMBER: u64 = (1 << 33) - 1;

const USTAR: &[u8; 8] = b"ustar\x0000";
const GNU: &[u8; 8] = b"ustar  \0";

/// Zero bytes that follow a content of `size` bytes.
#[must_use]
pub fn padding(size: u64) -> usize {
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}

/// Length of an archive whose members have these sizes.
#[must_use]
pub fn length(sizes: impl IntoIterator<Item = u64>) -> u64 {
    sizes.into_iter().map(|size| BLOCK as u64 + size + padding(size) as u64).sum::<u64>() + END.len() as u64
}

/// The header of a member. `Misuse` for a name that is unsafe or does not fit, or 8 GiB and more.
pub fn header(name: &str, size: u64) -> Result<[u8; BLOCK]> {
    if !is_safe_name(name) {
        return Err(Error::misuse("a payload file needs a plain relative name"));
    }
    if size > MEMBER {
        return Err(Error::misuse("a payload file must be shorter than 8 GiB"));
    }
    let (prefix, rest) =
        split(name).ok_or_else(|| Error::misuse("a payload file name does not fit into a tar header"))?;
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, rest.as_bytes());
    put(100, b"0000644");
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000");
    put(156, b"0");
    put(257, USTAR);
    put(329, b"0000000");
    put(337, b"0000000");
    put(345, prefix.as_bytes());
    let sum = checksum(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// (prefix, name): at most 155 and 100 bytes, cut at a slash.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= 100 {
        return Some(("", name));
    }
    let cuts = name.match_indices('/').map(|(at, _)| (&name[..at], &name[at + 1..]));
    cuts.into_iter().find(|(prefix, rest)| prefix.len() <= 155 && rest.len() <= 100)
}

/// Sum of the bytes of a header, its checksum field read as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let outside = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>();
    outside + 8 * u32::from(b' ')
}

/// Whether a block is a tar header by its checksum: how a reader without a key commitment tells the right key.
#[must_use]
pub fn is_header(block: &[u8; BLOCK]) -> bool {
    octal(&block[148..156]) == Some(u64::from(checksum(block)))
}

/// What a piece of an archive holds; ranges count bytes of that piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A regular file begins. Its name is plain and unique ignoring case, a leading `./` and one `payload/` removed.
    Start {
        /// Path inside the payload.
        name: String,
        /// Bytes of content that follow.
        size: u64,
    },
    /// Content of the current member.
    Data(Range<usize>),
    /// The current member is complete.
    End,
}

/// A strict reader of one archive of known length.
#[derive(Debug)]
pub struct Reader {
    length: u64,
    at: u64,
    block: Vec<u8>,
    state: State,
    names: HashMap<String, Place>,
    members: u64,
    folders: u64,
}

/// What a name, ignoring case, has been used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    File,
    Folder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Content { left: u64, padding: usize },
    Padding { left: usize },
    End { blocks: usize },
}

impl Reader {
    /// For an archive of `length` bytes.
    #[must_use]
    pub fn new(length: u64) -> Self {
        Self { length, at: 0, block: Vec::new(), state: State::Header, names: HashMap::new(), members: 0, folders: 0 }
    }

    /// Takes the next bytes of the archive, in pieces of any size. Refusals: `E_TAR_TYPE`, `E_TAR_NAME`, `E_TAR_SIZE`,
    /// `E_TAR_HEADER`, `E_LIMIT`, with the byte of the archive; after one the reader must not be used again.
    pub fn feed(&mut self, piece: &[u8], mut event: impl FnMut(Event) -> Result<()>) -> Result<()> {
        let mut used = 0;
        while used < piece.len() {
            let rest = &piece[used..];
            let taken = match self.state {
                State::Header | State::End { .. } => {
                    let taken = rest.len().min(BLOCK - self.block.len());
                    self.block.extend_from_slice(&rest[..taken]);
                    if self.block.len() == BLOCK {
                        self.block(&mut event)?;
                        self.block.clear();
                    }
                    taken
                }
                State::Content { left, padding } => {
                    let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    event(Event::Data(used..used + taken))?;
                    self.content(left - taken as u64, padding, &mut event)?;
                    taken
                }
                State::Padding { left } => {
                    let taken = rest.len().min(left);
                    if let Some(byte) = rest[..taken].iter().position(|byte| *byte != 0) {
                        return Err(self.refused(Code::TarSize, self.at + byte as u64, "padding that is not zero"));
                    }
                    self.state = if taken == left { State::Header } else { State::Padding { left: left - taken } };
                    taken
                }
            };
            used += taken;
            self.at += taken as u64;
        }
        Ok(())
    }

    /// The archive is over: refuses one that ends before its two zero blocks.
    pub fn finish(self) -> Result<()> {
        match self.state {
            State::End { blocks } if blocks >= 2 && self.block.is_empty() => Ok(()),
            _ => Err(self.refused(Code::TarSize, self.at, "ends before its two zero blocks")),
        }
    }

    fn content(&mut self, left: u64, padding: usize, event: &mut impl FnMut(Event) -> Result<()>) -> Result<()> {
        self.state = match (left, padding) {
            (0, 0) => State::Header,
            (0, left) => State::Padding { left },
            (left, padding) => State::Content { left, padding },
        };
        if left == 0 { event(Event::End) } else { Ok(()) }
    }

    /// A whole block where a header or the end must be.
    fn block(&mut self, event: &mut impl FnMut(Event) -> Result<()>) -> Result<()> {
        let start = self.at - self.at % BLOCK as u64; // every block begins at a multiple of its length
        let zero = self.block.iter().all(|byte| *byte == 0);
        match (self.state, zero) {
            (State::End { blocks }, true) => self.state = State::End { blocks: blocks + 1 },
            (_, true) => self.state = State::End { blocks: 1 },
            (State::End { .. }, false) => {
                return Err(self.refused(Code::TarName, start, "a zero block stands where a member must be"));
            }
            (_, false) => {
                let Some(member) = self.member(start)? else { return Ok(()) };
                let (name, size) = member;
                self.members += 1;
                if self.members > limits::TAR_MEMBERS {
                    return Err(self.refused(Code::Limit, start, "too many members"));
                }
                let left = self.length.saturating_sub(start + BLOCK as u64 + END.len() as u64);
                if size + padding(size) as u64 > left {
                    return Err(self.refused(Code::TarSize, start + 124, "longer than what is left of the archive"));
                }
                event(Event::Start { name, size })?;
                self.content(size, padding(size), event)?;
            }
        }
        Ok(())
    }

    /// Name and size of a member; None for a directory.
    fn member(&mut self, start: u64) -> Result<Option<(String, u64)>> {
        let block: &[u8; BLOCK] = self.block.as_slice().try_into().expect("a block is complete when it is parsed");
        let refused = |code, at: u64, why: &str| Error::refused_at(code, "payload tar", start + at, why);
        if !is_header(block) {
            return Err(refused(Code::TarHeader, 148, "checksum"));
        }
        if block[257..265] != *USTAR && block[257..265] != *GNU {
            return Err(refused(Code::TarHeader, 257, "neither ustar nor GNU"));
        }
        let kind = block[156];
        if !matches!(kind, b'0' | 0 | b'5') {
            return Err(refused(Code::TarType, 156, "only regular files and directories may stand here"));
        }
        if block[157] != 0 {
            return Err(refused(Code::TarType, 157, "a link name"));
        }
        // GNU and star put the file type above the permissions; set-id and sticky bits have no place in a payload.
        if octal(&block[100..108]).is_none_or(|mode| mode & 0o7000 != 0) {
            return Err(refused(Code::TarHeader, 100, "mode"));
        }
        let size = octal(&block[124..136]).ok_or_else(|| refused(Code::TarSize, 124, "not an octal number"))?;
        let prefix = if block[257..265] == *USTAR { &block[345..500] } else { &[] };
        let name = Self::name(&block[..100], prefix).ok_or_else(|| refused(Code::TarName, 0, "not a text"))?;
        if kind == b'5' {
            let harmless = matches!(name.as_str(), "." | "./") || is_safe_name(plain(name.trim_end_matches('/')));
            return match (size, harmless) {
                (0, true) => Ok(None),
                (0, false) => Err(refused(Code::TarName, 0, "unsafe name")),
                _ => Err(refused(Code::TarSize, 124, "a directory with a content")),
            };
        }
        let name = plain(&name).to_owned();
        if !is_safe_name(&name) {
            return Err(refused(Code::TarName, 0, "unsafe name"));
        }
        let folded = name.to_lowercase();
        for (at, _) in folded.match_indices('/') {
            match self.names.insert(folded[..at].to_owned(), Place::Folder) {
                Some(Place::File) => return Err(refused(Code::TarName, 0, "a file stands where a folder must be")),
                Some(Place::Folder) => {}
                None => self.folders += 1,
            }
            if self.folders > limits::TAR_FOLDERS {
                return Err(refused(Code::Limit, 0, "too many folders"));
            }
        }
        if self.names.insert(folded, Place::File).is_some() {
            return Err(refused(Code::TarName, 0, "a name stands twice"));
        }
        Ok(Some((name, size)))
    }

    fn name(name: &[u8], prefix: &[u8]) -> Option<String> {
        let text = |field: &[u8]| {
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            let clean = field[end..].iter().all(|byte| *byte == 0);
            clean.then(|| String::from_utf8(field[..end].to_vec()).ok()).flatten()
        };
        let (name, prefix) = (text(name)?, text(prefix)?);
        Some(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
    }

    fn refused(&self, code: Code, at: u64, why: &str) -> Error {
        Error::refused_at(code, "payload tar", at, why)
    }
}

/// Without one leading `./` and one `payload/`, which other writers put there (spec/jmix-1.0 3).
fn plain(name: &str) -> &str {
    let name = name.strip_prefix("./").unwrap_or(name);
    name.strip_prefix("payload/").unwrap_or(name)
}

/// An octal field: digits, then only NUL and spaces; None for base-256, signs, or nothing.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.iter().take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    let rest = field[digits..].iter().all(|byte| matches!(byte, 0 | b' '));
    let text = std::str::from_utf8(&field[..digits]).ok()?;
    if rest { u64::from_str_radix(text, 8).ok() } else { None }
}

#[cfg(test)]
mod tests;
