//! The ZIP or folder that holds an envelope: small documents held, the payload left where it is.
//!
//! Exactly the names of the default dialect may be there. The ZIP is read as [`zip`] does, and the bytes that no check
//! covers are listed. spec/jmix-1.0 11; seg/1 2.5, 2.6, 14.

use super::dialects::DEFAULT;
use crate::archive::zip::{self, Archive, DosTime};
use crate::envelope::audit;
use crate::envelope::names::{AUDIT, MANIFEST, SIGNATURE};
use crate::envelope::report::Unsigned;
use crate::error::{Code, Error, Result};
use crate::{ReadAt, limits};

/// The ZIP or folder of an envelope.
pub struct Container<'a> {
    /// Bytes of manifest.json.
    pub manifest: Vec<u8>,
    /// Bytes of manifest.jws.
    pub signature: Option<Vec<u8>>,
    /// The encrypted payload, if there is one.
    pub payload: Option<Payload<'a>>,
    /// Findings that are no reason to refuse.
    pub warnings: Vec<String>,
    /// Bytes that nothing covers.
    pub unsigned: Vec<Unsigned>,
    /// The time of the archive's headers, where they agree.
    pub time: Option<DosTime>,
}

/// Where the ciphertext lies.
pub struct Payload<'a> {
    source: &'a dyn ReadAt,
    offset: u64,
    /// Length in bytes.
    pub size: u64,
    /// What the archive says of it.
    pub crc: Option<u32>,
}

impl Payload<'_> {
    /// Fills `into` from a place inside the payload.
    pub fn read_at(&self, at: u64, into: &mut [u8]) -> Result<()> {
        self.source.read_at(self.offset + at, into)
    }
}

impl<'a> Container<'a> {
    /// From a ZIP. `E_ZIP_*` and `E_LIMIT`; a damaged audit.json is a warning.
    pub fn of_zip(source: &'a dyn ReadAt) -> Result<Self> {
        let archive = zip::read(source).map_err(|error| match zip::lists(source, MANIFEST) {
            Some(false) => no_manifest(),
            _ => error,
        })?;
        if archive.entry(MANIFEST).is_none() {
            return Err(no_manifest());
        }
        let mut left = ENTRIES.iter();
        for entry in &archive.entries {
            if !left.any(|name| *name == entry.name) {
                return Err(Error::refused_at(Code::ZipName, "archive", entry.offset, foreign(&entry.name)));
            }
        }
        let content = |name| read_entry(source, &archive, name);
        let manifest = content(MANIFEST)?.ok_or_else(no_manifest)?;
        let signature = content(SIGNATURE)?;
        let mut found = Self {
            manifest,
            signature,
            payload: archive.entry(DEFAULT.payload).map(|entry| Payload {
                source,
                offset: entry.offset,
                size: entry.size,
                crc: Some(entry.crc),
            }),
            warnings: Vec::new(),
            unsigned: archive.times.iter().map(|(start, end)| Unsigned::new("ZIP time", *start, *end)).collect(),
            time: archive.time,
        };
        let audit = archive.entry(AUDIT);
        found.audit(content(AUDIT))?;
        found.unsigned.extend(audit.map(|entry| Unsigned::new(AUDIT, entry.offset, entry.offset + entry.size)));
        found.unsigned.sort_by_key(|range| range.start);
        Ok(found)
    }

    /// From the files of a folder: (name, content) of everything in it. `E_ZIP_NAME` for a name that does not belong
    /// there.
    pub fn of_directory(files: &'a [(String, Box<dyn ReadAt>)]) -> Result<Self> {
        if !files.iter().any(|(name, _)| name == MANIFEST) {
            return Err(no_manifest());
        }
        if let Some((name, _)) = files.iter().find(|(name, _)| !ENTRIES.contains(&name.as_str())) {
            return Err(Error::refused(Code::ZipName, "envelope", foreign(name)));
        }
        let file = |name: &str| files.iter().find(|(known, _)| known == name).map(|(_, source)| &**source);
        let content = |name| file(name).map(|source| read_whole(source, 0, source.size(), name)).transpose();
        let mut found = Self {
            manifest: content(MANIFEST)?.ok_or_else(no_manifest)?,
            signature: content(SIGNATURE)?,
            payload: file(DEFAULT.payload).map(|source| Payload { source, offset: 0, size: source.size(), crc: None }),
            warnings: Vec::new(),
            unsigned: file(AUDIT).map(|source| Unsigned::new(AUDIT, 0, source.size())).into_iter().collect(),
            time: None,
        };
        found.audit(content(AUDIT))?;
        Ok(found)
    }

    /// Whatever is wrong with the audit is a warning.
    fn audit(&mut self, found: Result<Option<Vec<u8>>>) -> Result<()> {
        self.warnings.extend(match found {
            Ok(Some(data)) => audit::warning(&data),
            Ok(None) => Some(format!("{AUDIT}: missing")),
            Err(Error::Refused { code: Code::ZipCrc | Code::Limit, why, .. }) => Some(format!("{AUDIT}: {why}")),
            Err(other) => return Err(other),
        });
        Ok(())
    }
}

fn no_manifest() -> Error {
    Error::refused(Code::ZipName, "envelope", format!("no JMIX envelope: it has no {MANIFEST}"))
}

/// What an encrypted envelope consists of, in the order in which it stands in a ZIP.
const ENTRIES: [&str; 4] = [MANIFEST, SIGNATURE, AUDIT, DEFAULT.payload];

fn foreign(name: &str) -> String {
    if ENTRIES.contains(&name) {
        format!("{name} stands in the wrong place: the order is {}", ENTRIES.join(", "))
    } else {
        format!("{name} does not belong into an encrypted JMIX envelope")
    }
}

fn read_entry(source: &dyn ReadAt, archive: &Archive, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(entry) = archive.entry(name) else { return Ok(None) };
    let data = read_whole(source, entry.offset, entry.size, name)?;
    if crc32fast::hash(&data) != entry.crc {
        return Err(Error::refused(Code::ZipCrc, name, "CRC-32: damaged"));
    }
    Ok(Some(data))
}

fn read_whole(source: &dyn ReadAt, at: u64, size: u64, name: &str) -> Result<Vec<u8>> {
    let limit = if name == SIGNATURE { limits::JWS } else { limits::DOCUMENT };
    if size > limit {
        return Err(Error::refused(Code::Limit, name, format!("longer than {limit} bytes")));
    }
    let mut data = vec![0; usize::try_from(size).map_err(|_| Error::misuse("documents fit into memory"))?];
    source.read_at(at, &mut data)?;
    Ok(data)
}
