//! The strict reading of [`super::read`], for an archive that arrives piece by piece.
//!
//! [`super::read`] begins at the end of the archive and can go back; this reader sees each byte once, so that a payload can
//! be opened while it is still on its way. Both accept the same archives: what the local headers say is compared with the
//! central directory when that comes. Nothing is held but one header and a few facts of each entry. CRC-32s are checked as
//! contents pass. What was given of an archive is unproven until [`Reader::finish`] has said yes.

use std::collections::HashSet;
use std::ops::Range;

use super::{
    CENTRAL, DosTime, END, Entry, LOCAL, MAX32, central_header, end_records, local_header, same, u16_at, u32_at, u64_at,
};
use super::{CENTRAL_FIELDS, LOCAL_FIELDS};
use crate::archive::is_safe_name;
use crate::error::{Code, Error, Result};
use crate::limits;

/// Bytes of a signature.
const SIGNATURE: usize = 4;

/// Bytes of the longest extra field: ZIP64 with both sizes.
const EXTRA: usize = 20;

/// What a piece of an archive holds; ranges count bytes of that piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An entry begins. Its CRC-32 is a claim until its content is complete.
    Start(Entry),
    /// Content of the current entry.
    Data(Range<usize>),
    /// The current entry is complete, and its CRC-32 is right.
    End,
}

/// A strict reader of one archive.
pub struct Reader {
    at: u64,
    /// The header under way, which has `need` bytes.
    block: Vec<u8>,
    need: usize,
    state: State,
    /// Each entry and where its local header begins.
    entries: Vec<(Entry, u64)>,
    names: HashSet<String>,
    crc: crc32fast::Hasher,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A header, or the beginning of what follows the last entry.
    Header,
    /// Content of the last entry.
    Content { left: u64 },
    /// The central header of entry `next` of a directory that began at `start`; behind the last one the end records.
    Directory { next: usize, start: u64 },
    /// Behind the end records.
    Done,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// At the first byte.
    #[must_use]
    pub fn new() -> Self {
        Self {
            at: 0,
            block: Vec::new(),
            need: SIGNATURE,
            state: State::Header,
            entries: Vec::new(),
            names: HashSet::new(),
            crc: crc32fast::Hasher::new(),
        }
    }

    /// Takes the next bytes of the archive, in pieces of any size. Refusals: `E_ZIP_END`, `E_ZIP_HEADER`, `E_ZIP_NAME`,
    /// `E_ZIP_CRC`, `E_ZIP_DIRECTORY`, `E_LIMIT`, with the byte; after one the reader must not be used again.
    pub fn feed(&mut self, piece: &[u8], mut event: impl FnMut(Event) -> Result<()>) -> Result<()> {
        let mut used = 0;
        while used < piece.len() {
            let rest = &piece[used..];
            let taken = match self.state {
                State::Content { left } => {
                    let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    self.crc.update(&rest[..taken]);
                    self.at += taken as u64;
                    event(Event::Data(used..used + taken))?;
                    self.content(left - taken as u64, &mut event)?;
                    taken
                }
                State::Done => {
                    let why = "something follows the end record";
                    return Err(Error::refused_at(Code::ZipEnd, "archive", self.at, why));
                }
                State::Header | State::Directory { .. } => {
                    let taken = rest.len().min(self.need - self.block.len());
                    self.block.extend_from_slice(&rest[..taken]);
                    self.at += taken as u64;
                    if self.block.len() == self.need {
                        self.gathered(&mut event)?;
                    }
                    taken
                }
            };
            used += taken;
        }
        Ok(())
    }

    /// The archive is over: refuses one that was cut off.
    pub fn finish(self) -> Result<()> {
        match self.state {
            State::Done => Ok(()),
            _ if self.entries.is_empty() => Err(Error::refused(Code::ZipEnd, "archive", "not a ZIP file")),
            _ => Err(Error::refused_at(Code::ZipEnd, "archive", self.at, "cut off before its end record")),
        }
    }

    /// All bytes are there that were needed to go on.
    fn gathered(&mut self, event: &mut impl FnMut(Event) -> Result<()>) -> Result<()> {
        let start = self.at - self.block.len() as u64;
        match (self.state, self.block.len()) {
            (State::Header, SIGNATURE) if self.block == *b"PK\x03\x04" => self.need = LOCAL,
            (State::Header, SIGNATURE) => self.begin_directory(start)?,
            (State::Header, LOCAL) => {
                let (name, extra) = (u16_at(&self.block, 26) as usize, u16_at(&self.block, 28) as usize);
                self.check_lengths(start, name, extra)?;
                self.need = LOCAL + name + extra;
            }
            (State::Header, _) => {
                let entry = self.local(start)?;
                let size = entry.size;
                self.entries.push((entry.clone(), start));
                self.block.clear();
                self.crc.reset();
                event(Event::Start(entry))?;
                self.content(size, event)?;
            }
            (State::Directory { next, start: directory }, _) => self.directory(next, directory, start)?,
            (State::Content { .. } | State::Done, _) => {}
        }
        Ok(())
    }

    fn content(&mut self, left: u64, event: &mut impl FnMut(Event) -> Result<()>) -> Result<()> {
        if left > 0 {
            self.state = State::Content { left };
            return Ok(());
        }
        (self.state, self.need) = (State::Header, SIGNATURE);
        let crc = std::mem::take(&mut self.crc).finalize();
        match self.entries.last() {
            Some((entry, _)) if entry.crc != crc => {
                Err(Error::refused(Code::ZipCrc, entry.name.as_str(), "CRC-32: damaged"))
            }
            _ => event(Event::End),
        }
    }

    fn check_lengths(&self, at: u64, name: usize, extra: usize) -> Result<()> {
        let refused = |code, why: &str| Err(Error::refused_at(code, "local header", at, why));
        match u16_at(&self.block, 8) {
            0 => {}
            8 => return Err(Error::unsupported("ZIP archive", "compressed entries; only stored ones are read")),
            _ => return refused(Code::ZipHeader, "compression method"),
        }
        if name == 0 || name > limits::NAME {
            return refused(Code::ZipName, "no name, or one longer than 255 bytes");
        }
        if extra > EXTRA {
            return refused(Code::ZipHeader, "extra field length is not what the entries make it");
        }
        if self.entries.len() as u64 >= limits::ZIP_ENTRIES {
            return refused(Code::Limit, "too many entries");
        }
        Ok(())
    }

    /// The entry of a whole local header at `start`.
    fn local(&mut self, start: u64) -> Result<Entry> {
        let block = &self.block;
        let refused = |code, why: &str| Error::refused_at(code, "local header", start, why);
        let extra = LOCAL + u16_at(block, 26) as usize;
        let name = std::str::from_utf8(&block[LOCAL..extra]).ok();
        let name = name.filter(|name| name.is_ascii() && is_safe_name(name));
        let name = name.ok_or_else(|| refused(Code::ZipName, "unsafe name"))?;
        let size = match u32_at(block, 22) {
            MAX32 if block.len() == extra + EXTRA => u64_at(block, extra + 4),
            MAX32 => return Err(refused(Code::ZipHeader, "a size that needs ZIP64 without its extra field")),
            size => size,
        };
        let (time, crc) = (DosTime(u32_at(block, 10) as u32), u32_at(block, 14) as u32);
        let part = format!("local header of {name}");
        same(block, &local_header(name, size, crc, time), start, Code::ZipHeader, &part, &LOCAL_FIELDS)?;
        if !self.names.insert(name.to_ascii_lowercase()) {
            return Err(refused(Code::ZipName, "a name stands twice"));
        }
        if self.at.checked_add(size).is_none() {
            return Err(refused(Code::ZipEnd, "longer than an archive can be"));
        }
        Ok(Entry { name: name.to_owned(), offset: self.at, size, crc })
    }

    /// What stands at `start` is no local header: the directory begins here, or this is no ZIP file.
    fn begin_directory(&mut self, start: u64) -> Result<()> {
        let known: &[&[u8]] = &[b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06"];
        if start == 0 && !known.contains(&self.block.as_slice()) {
            return Err(Error::refused(Code::ZipEnd, "archive", "not a ZIP file"));
        }
        self.state = State::Directory { next: 0, start };
        self.need = self.expected(0, start, DosTime(0)).len();
        Ok(())
    }

    /// What the local headers make of the central header of entry `next`, or of the end records behind the last one.
    fn expected(&self, next: usize, directory: u64, time: DosTime) -> Vec<u8> {
        match self.entries.get(next) {
            Some((entry, local)) => central_header(&entry.name, entry.size, *local, entry.crc, time),
            None => {
                let start = self.at - self.block.len() as u64;
                end_records(self.entries.len() as u64, start - directory, directory)
            }
        }
    }

    /// Compares the record at `start` with what the local headers make of it.
    fn directory(&mut self, next: usize, directory: u64, start: u64) -> Result<()> {
        let is_end = next == self.entries.len();
        let time = if is_end { DosTime(0) } else { DosTime(u32_at(&self.block, 12) as u32) };
        let must = self.expected(next, directory, time);
        let (part, fields): (_, &[_]) =
            if is_end { ("end record", &[]) } else { ("central directory", &CENTRAL_FIELDS) };
        same(&self.block, &must, start, Code::ZipDirectory, part, fields)?;
        self.block.clear();
        if is_end {
            self.state = State::Done;
        } else {
            self.state = State::Directory { next: next + 1, start: directory };
            self.need = self.expected(next + 1, directory, DosTime(0)).len();
        }
        Ok(())
    }
}

// A record of the directory holds its time, so what is gathered of one is never shorter than that.
const _: () = assert!(CENTRAL > 16 && END > SIGNATURE);
