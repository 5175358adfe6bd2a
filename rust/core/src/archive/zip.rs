//! Stored ZIP, both ways, with every byte outside the contents derived from names, sizes, CRCs and one time.
//!
//! The writer is a [`Layout`]: all lengths are known before the first byte, contents are written at their offsets in any
//! order, and [`Layout::finish`] writes the headers once the CRCs are known. The reader, [`read`], derives the same bytes
//! from what the central directory claims and accepts nothing else, so there is one reading of a file: nothing stands
//! before, between or after the entries, and the two headers of an entry cannot disagree (spec/hostile-input H).
//! Only the times are free. [`feed`] reads the same archives as they arrive. seg/1 2.2; APPNOTE.TXT 4.3, 4.4, 4.5.3.

pub mod feed;

use std::collections::HashSet;

use super::is_safe_name;
use crate::error::{Code, Error, Result};
use crate::{ReadAt, WriteAt, limits};

const LOCAL: usize = 30; // APPNOTE.TXT 4.3.7
const CENTRAL: usize = 46; // 4.3.12
const END: usize = 22; // 4.3.16
const END64: usize = 56; // 4.3.14, its size field counts 44 of them
const LOCATOR: usize = 20; // 4.3.15
const MAX16: u64 = 0xFFFF;
const MAX32: u64 = 0xFFFF_FFFF;

/// MS-DOS date and time, seconds halved and rounded down (APPNOTE.TXT 4.4.6): date in the upper half, time in the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DosTime(pub u32);

impl DosTime {
    /// From `YYYY-MM-DDThh:mm:ssZ` between 1980 and 2107; None for anything else.
    #[must_use]
    pub fn from_timestamp(timestamp: &str) -> Option<Self> {
        let shape = |(i, b): (usize, u8)| match i {
            4 | 7 => b == b'-',
            10 => b == b'T',
            13 | 16 => b == b':',
            19 => b == b'Z',
            _ => b.is_ascii_digit(),
        };
        if timestamp.len() != 20 || !timestamp.bytes().enumerate().all(shape) {
            return None;
        }
        let number = |from: usize, to: usize| timestamp[from..to].parse::<u32>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let days = days_of_month(year, month)?;
        let real =
            (1980..=2107).contains(&year) && (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60;
        let date = (year.wrapping_sub(1980) << 9) | (month << 5) | day;
        real.then_some(Self((date << 16) | (hour << 11) | (minute << 5) | (second / 2)))
    }
}

/// Days of a month of the Gregorian calendar; None for a month that does not exist.
#[must_use]
pub fn days_of_month(year: u32, month: u32) -> Option<u32> {
    let leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    match month {
        2 => Some(28 + u32::from(leap)),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

/// Where every byte of an archive goes, from names and sizes alone.
#[derive(Debug, Clone)]
pub struct Layout {
    entries: Vec<(String, u64, u64)>, // name, size, offset of the local header
    time: DosTime,
    directory: u64,
    length: u64,
}

impl Layout {
    /// Entries (name, size in bytes) in the order they will stand. `Misuse` for an unsafe, non-ASCII or repeated name.
    pub fn new<'a>(entries: impl IntoIterator<Item = (&'a str, u64)>, time: DosTime) -> Result<Self> {
        let mut placed = Vec::new();
        let mut names = HashSet::new();
        let (mut offset, mut central) = (0_u64, 0_u64);
        let too_long = || Error::misuse("the archive would be longer than 2^64 bytes");
        for (name, size) in entries {
            if !name.is_ascii() || !is_safe_name(name) || !names.insert(name.to_ascii_lowercase()) {
                return Err(Error::misuse("ZIP entry names must be safe, ASCII and distinct"));
            }
            placed.push((name.to_owned(), size, offset));
            central += (CENTRAL + name.len() + central_extra(size, offset).len()) as u64;
            let header = (LOCAL + name.len() + local_extra(size).len()) as u64;
            offset = offset.checked_add(header).and_then(|at| at.checked_add(size)).ok_or_else(too_long)?;
        }
        let tail = central + end_records(placed.len() as u64, central, offset).len() as u64;
        let length = offset.checked_add(tail).ok_or_else(too_long)?;
        Ok(Self { entries: placed, time, directory: offset, length })
    }

    /// Length of the whole archive in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where the content of entry `index` begins; None when there is no such entry.
    #[must_use]
    pub fn content(&self, index: usize) -> Option<u64> {
        let (name, size, offset) = self.entries.get(index)?;
        Some(offset + (LOCAL + name.len() + local_extra(*size).len()) as u64)
    }

    /// Writes every header and the directory. `crcs`: CRC-32 of each content, in order.
    pub fn finish(&self, crcs: &[u32], sink: &mut dyn WriteAt) -> Result<()> {
        if crcs.len() != self.entries.len() {
            return Err(Error::misuse("one CRC for each entry"));
        }
        let mut tail = Vec::new();
        for ((name, size, offset), crc) in self.entries.iter().zip(crcs) {
            sink.write_at(*offset, &local_header(name, *size, *crc, self.time))?;
            tail.extend(central_header(name, *size, *offset, *crc, self.time));
        }
        let end = end_records(self.entries.len() as u64, tail.len() as u64, self.directory);
        tail.extend(end);
        sink.write_at(self.directory, &tail)
    }
}

/// One entry of an archive that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// ASCII, safe, unique ignoring case.
    pub name: String,
    /// Where its content begins.
    pub offset: u64,
    /// Length of the content in bytes.
    pub size: u64,
    /// CRC-32 that both headers claim; whoever reads the content checks it.
    pub crc: u32,
}

/// A strictly read archive.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Entries in the order of their bytes.
    pub entries: Vec<Entry>,
    /// The time of all headers when they agree.
    pub time: Option<DosTime>,
    /// Byte ranges that nothing covers: the time fields of each local and central header.
    pub times: Vec<(u64, u64)>,
}

impl Archive {
    /// The entry of exactly this name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

/// Reads the structure of a stored archive; contents are not read. Refusals: `E_ZIP_END`, `E_ZIP_HEADER`, `E_ZIP_NAME`,
/// `E_ZIP_DIRECTORY`, `E_LIMIT`, with the byte.
pub fn read(source: &dyn ReadAt) -> Result<Archive> {
    let (count, start, end) = find_directory(source)?;
    let mut archive = Archive { entries: Vec::new(), time: None, times: Vec::new() };
    let mut names = HashSet::new();
    let mut times = HashSet::new();
    let mut central = Window::new(source, end);
    let (mut at, mut local) = (start, 0_u64);
    for _ in 0..count {
        let claim = Claim::read(&mut central, at)?;
        if !names.insert(claim.name.to_ascii_lowercase()) {
            return Err(Error::refused_at(Code::ZipName, "central directory", at, "a name stands twice"));
        }
        let header = central_header(&claim.name, claim.size, local, claim.crc, claim.time);
        let found = central.bytes(at, header.len())?;
        same(found, &header, at, Code::ZipDirectory, "central directory", &CENTRAL_FIELDS)?;

        let (time, content) = read_local(source, &claim, local, start)?;
        times.extend([time.0, claim.time.0]);
        archive.times.extend([(local + 10, local + 14), (at + 12, at + 16)]);
        archive.entries.push(Entry { name: claim.name, offset: content, size: claim.size, crc: claim.crc });
        at += header.len() as u64;
        local = content + claim.size;
    }
    if local != start {
        return Err(Error::refused_at(Code::ZipDirectory, "archive", local, "bytes that belong to no entry"));
    }
    if at != end {
        return Err(Error::refused_at(Code::ZipDirectory, "central directory", at, "bytes that belong to no entry"));
    }
    if let (1, Some(time)) = (times.len(), times.into_iter().next()) {
        archive.time = Some(DosTime(time));
    }
    Ok(archive)
}

/// Whether the central directory names an entry `name`, read as any tool would: to say what an archive is that [`read`]
/// does not take. None when no directory is found, or it is no list of entries.
#[must_use]
pub fn lists(source: &dyn ReadAt, name: &str) -> Option<bool> {
    let mut end = [0; END];
    source.read_at(source.size().checked_sub(END as u64)?, &mut end).ok()?;
    let (count, length, mut at) = (u16_at(&end, 10), u32_at(&end, 12), u32_at(&end, 16));
    if end[..4] != *b"PK\x05\x06" || count == MAX16 || at == MAX32 {
        return None;
    }
    let mut central = Window::new(source, at + length);
    for _ in 0..count {
        let fixed = central.bytes(at, CENTRAL).ok()?;
        let lengths = [u16_at(fixed, 28), u16_at(fixed, 30), u16_at(fixed, 32)];
        if fixed[..4] != *b"PK\x01\x02" {
            return None;
        }
        let named = usize::try_from(lengths[0]).ok().filter(|length| *length == name.len());
        if let Some(length) = named
            && central.bytes(at + CENTRAL as u64, length).ok()? == name.as_bytes()
        {
            return Some(true);
        }
        at += CENTRAL as u64 + lengths.iter().sum::<u64>();
    }
    Some(false)
}

/// (number of entries, first byte, end) of the central directory; the end records are exactly as derived from them.
fn find_directory(source: &dyn ReadAt) -> Result<(u64, u64, u64)> {
    let wrong = |at: u64, why: &str| Error::refused_at(Code::ZipDirectory, "end record", at, why);
    let size = source.size();
    let last = size
        .checked_sub(END as u64)
        .ok_or_else(|| Error::refused_at(Code::ZipEnd, "archive", size, "not a ZIP file: too short for one"))?;
    let mut end = [0; END];
    source.read_at(last, &mut end)?;
    if end[..4] != *b"PK\x05\x06" {
        let mut begin = [0; 4];
        source.read_at(0, &mut begin)?;
        return Err(match &begin {
            b"PK\x03\x04" => {
                let why = "no end record in the last 22 bytes: cut off, or something follows it";
                Error::refused_at(Code::ZipEnd, "archive", last, why)
            }
            _ => Error::refused(Code::ZipEnd, "archive", "not a ZIP file"),
        });
    }
    let mut tail = end.to_vec();
    let (mut count, mut length, mut start) = (u16_at(&end, 10), u32_at(&end, 12), u32_at(&end, 16));
    if count == MAX16 || length == MAX32 || start == MAX32 {
        let first = last
            .checked_sub((END64 + LOCATOR) as u64)
            .ok_or_else(|| wrong(last, "needs a ZIP64 end record and has no room for one"))?;
        tail = vec![0; END64 + LOCATOR + END];
        source.read_at(first, &mut tail)?;
        (count, length, start) = (u64_at(&tail, 32), u64_at(&tail, 40), u64_at(&tail, 48));
    }
    let first = size - tail.len() as u64;
    if count > limits::ZIP_ENTRIES {
        return Err(Error::refused_at(Code::Limit, "end record", first, "too many entries"));
    }
    if start.checked_add(length) != Some(first) {
        return Err(wrong(first, "the central directory does not end where the end record begins"));
    }
    if count.saturating_mul(CENTRAL as u64) > length {
        return Err(wrong(first, "more entries than the central directory has room for"));
    }
    same(&tail, &end_records(count, length, start), first, Code::ZipDirectory, "end record", &[])?;
    Ok((count, start, first))
}

/// What a central header says of its entry; everything else of it follows.
struct Claim {
    name: String,
    size: u64,
    crc: u32,
    time: DosTime,
}

impl Claim {
    fn read(window: &mut Window<'_>, at: u64) -> Result<Self> {
        let refused = |code, why: &str| Error::refused_at(code, "central directory", at, why);
        let fixed = window.bytes(at, CENTRAL)?;
        if fixed[..4] != *b"PK\x01\x02" {
            return Err(refused(Code::ZipDirectory, "no central header here"));
        }
        match u16_at(fixed, 10) {
            0 => {}
            8 => return Err(Error::unsupported("ZIP archive", "compressed entries; only stored ones are read")),
            _ => return Err(refused(Code::ZipHeader, "compression method")),
        }
        let (time, crc) = (DosTime(u32_at(fixed, 12) as u32), u32_at(fixed, 16) as u32);
        let (size, name_length, extra) = (u32_at(fixed, 24), u16_at(fixed, 28) as usize, u16_at(fixed, 30));
        if name_length > limits::NAME {
            return Err(refused(Code::ZipName, "name longer than 255 bytes"));
        }
        let name = window.bytes(at + CENTRAL as u64, name_length)?;
        let name = std::str::from_utf8(name)
            .ok()
            .filter(|name| name.is_ascii() && is_safe_name(name))
            .ok_or_else(|| refused(Code::ZipName, "unsafe name"))?
            .to_owned();
        let size = match size {
            MAX32 if extra >= 20 => u64_at(window.bytes(at + (CENTRAL + name_length) as u64, 12)?, 4),
            MAX32 => return Err(refused(Code::ZipDirectory, "a size that needs ZIP64 without its extra field")),
            size => size,
        };
        Ok(Self { name, size, crc, time })
    }
}

/// Compares the local header at `at` with what the claim makes of it; (its own time, where its content begins).
fn read_local(source: &dyn ReadAt, claim: &Claim, at: u64, directory: u64) -> Result<(DosTime, u64)> {
    let part = || format!("local header of {}", claim.name);
    let length = LOCAL + claim.name.len() + local_extra(claim.size).len();
    let content = at + length as u64;
    if content.checked_add(claim.size).is_none_or(|end| end > directory) {
        return Err(Error::refused_at(Code::ZipEnd, part(), at, "its content would reach into the central directory"));
    }
    let mut found = vec![0; length];
    source.read_at(at, &mut found)?;
    let time = DosTime(u32_at(&found, 10) as u32);
    let header = local_header(&claim.name, claim.size, claim.crc, time);
    same(&found, &header, at, Code::ZipHeader, &part(), &LOCAL_FIELDS)?;
    Ok((time, content))
}

type Fields = [(usize, &'static str)];

const LOCAL_FIELDS: [(usize, &str); 12] = [
    (0, "signature"),
    (4, "version needed"),
    (6, "flags"),
    (8, "method"),
    (10, "time"),
    (14, "CRC-32"),
    (18, "size"),
    (22, "size"),
    (26, "name length"),
    (28, "extra field length"),
    (30, "name"),
    (usize::MAX, ""),
];

const CENTRAL_FIELDS: [(usize, &str); 17] = [
    (0, "signature"),
    (4, "version made by"),
    (6, "version needed"),
    (8, "flags"),
    (10, "method"),
    (12, "time"),
    (16, "CRC-32"),
    (20, "size"),
    (28, "name length"),
    (30, "extra field length"),
    (32, "comment length"),
    (34, "disk"),
    (36, "internal attributes"),
    (38, "external attributes"),
    (42, "offset"),
    (46, "name or extra field"),
    (usize::MAX, ""),
];

/// Refuses at the first byte where `found` is not what it must be.
fn same(found: &[u8], must: &[u8], at: u64, code: Code, part: &str, fields: &Fields) -> Result<()> {
    let differs = found.iter().zip(must).position(|(a, b)| a != b);
    let Some(byte) = differs.or((found.len() != must.len()).then_some(must.len().min(found.len()))) else {
        return Ok(());
    };
    let field = fields.iter().rev().find(|(start, _)| *start <= byte).map_or("record", |(_, name)| name);
    let code = if code == Code::ZipHeader && field == "name" { Code::ZipName } else { code };
    Err(Error::refused_at(code, part, at + byte as u64, format!("{field} is not what the entries make it")))
}

/// A directory read through a buffer of 64 KiB, so that its size costs no memory.
struct Window<'a> {
    source: &'a dyn ReadAt,
    end: u64,
    start: u64,
    held: Vec<u8>,
}

impl<'a> Window<'a> {
    const SPAN: usize = 1 << 16;

    fn new(source: &'a dyn ReadAt, end: u64) -> Self {
        Self { source, end, start: 0, held: Vec::new() }
    }

    /// `length` bytes at `at` (far fewer than the span); `E_ZIP_DIRECTORY` when the directory ends before.
    fn bytes(&mut self, at: u64, length: usize) -> Result<&[u8]> {
        let end = at + length as u64;
        if end > self.end {
            let why = "an entry reaches past the end of the directory";
            return Err(Error::refused_at(Code::ZipDirectory, "central directory", at, why));
        }
        if at < self.start || end > self.start + self.held.len() as u64 {
            let span = (self.end - at).min(Self::SPAN as u64) as usize;
            self.held.resize(span, 0);
            self.source.read_at(at, &mut self.held)?;
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(&self.held[from..from + length])
    }
}

fn big(number: u64) -> bool {
    number >= MAX32
}

fn capped(number: u64) -> [u8; 4] {
    (number.min(MAX32) as u32).to_le_bytes()
}

/// ZIP64 extra field of a local header: both sizes or nothing (seg/1 2.2).
fn local_extra(size: u64) -> Vec<u8> {
    if big(size) { extra(&[size, size]) } else { Vec::new() }
}

/// ZIP64 extra field of a central header: what does not fit above, in the order of APPNOTE.TXT 4.5.3.
fn central_extra(size: u64, offset: u64) -> Vec<u8> {
    match (big(size), big(offset)) {
        (false, false) => Vec::new(),
        (true, false) => extra(&[size, size]),
        (false, true) => extra(&[offset]),
        (true, true) => extra(&[size, size, offset]),
    }
}

fn extra(values: &[u64]) -> Vec<u8> {
    let mut field = vec![1, 0, (values.len() * 8) as u8, 0];
    field.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    field
}

fn local_header(name: &str, size: u64, crc: u32, time: DosTime) -> Vec<u8> {
    let extra = local_extra(size);
    let mut header = b"PK\x03\x04".to_vec();
    header.extend([if big(size) { 45 } else { 20 }, 0, 0, 0, 0, 0]);
    header.extend(time.0.to_le_bytes());
    header.extend(crc.to_le_bytes());
    header.extend([capped(size), capped(size)].concat());
    header.extend((name.len() as u16).to_le_bytes());
    header.extend((extra.len() as u16).to_le_bytes());
    header.extend(name.as_bytes());
    header.extend(extra);
    header
}

fn central_header(name: &str, size: u64, offset: u64, crc: u32, time: DosTime) -> Vec<u8> {
    let extra = central_extra(size, offset);
    let version = if extra.is_empty() { 20 } else { 45 };
    let mut header = b"PK\x01\x02".to_vec();
    header.extend([version, 0, version, 0, 0, 0, 0, 0]);
    header.extend(time.0.to_le_bytes());
    header.extend(crc.to_le_bytes());
    header.extend([capped(size), capped(size)].concat());
    header.extend((name.len() as u16).to_le_bytes());
    header.extend((extra.len() as u16).to_le_bytes());
    header.extend([0; 10]); // comment length, disk, internal and external attributes
    header.extend(capped(offset));
    header.extend(name.as_bytes());
    header.extend(extra);
    header
}

/// The end record and, if and only if something does not fit in it, the ZIP64 records before it (seg/1 2.2).
fn end_records(count: u64, length: u64, start: u64) -> Vec<u8> {
    let mut records = Vec::new();
    if count >= MAX16 || big(length) || big(start) {
        records.extend(b"PK\x06\x06");
        records.extend(44_u64.to_le_bytes());
        records.extend([45, 0, 45, 0]);
        records.extend([0; 8]); // disks
        records.extend([count, count, length, start].map(u64::to_le_bytes).concat());
        records.extend(b"PK\x06\x07");
        records.extend([0; 4]);
        records.extend((start + length).to_le_bytes());
        records.extend(1_u32.to_le_bytes());
    }
    records.extend(b"PK\x05\x06");
    records.extend([0; 4]);
    records.extend([(count.min(MAX16) as u16).to_le_bytes(); 2].concat());
    records.extend([capped(length), capped(start)].concat());
    records.extend([0; 2]);
    records
}

fn u16_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    u16_at(bytes, at) | (u16_at(bytes, at + 2) << 16)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u32_at(bytes, at) | (u32_at(bytes, at + 4) << 32)
}

#[cfg(test)]
mod tests;
