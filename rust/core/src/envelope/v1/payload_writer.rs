//! Writes a payload: members become tar, ciphertext and a file, one piece at a time; [`super::hashing`] hashes the pieces.

use super::hashing::{Hashing, Mark, PIECE, Piece};
use crate::archive::tar;
use crate::envelope::files::Member;
use crate::envelope::{Open, Progress};
use crate::error::{Code, Error, Result};
use crate::seal::gcm::{Sealer, TAG};
use crate::{ReadAt, WriteAt};

/// One file to be packed.
pub struct Given<'a> {
    /// How errors name it.
    pub part: String,
    /// Where its bytes are.
    pub source: Box<dyn Open + 'a>,
    /// SHA-256 recorded before: other bytes are `E_STORE_CORRUPT`.
    pub sha256: Option<[u8; 32]>,
}

/// A member of the tar to be.
pub(super) struct Planned<'a> {
    /// Path inside the payload.
    pub(super) name: String,
    /// Length in bytes.
    pub(super) size: u64,
    /// Where its bytes come from.
    pub(super) content: Content<'a>,
}

/// Where the bytes of a member come from.
pub(super) enum Content<'a> {
    /// A file that is read once.
    File(Given<'a>),
    /// A document made here.
    Bytes(Vec<u8>),
}

impl Planned<'_> {
    /// This member with its digest, which must be the recorded one.
    fn hashed(&self, sha256: [u8; 32]) -> Result<Member> {
        match &self.content {
            Content::File(Given { sha256: Some(recorded), part, .. }) if *recorded != sha256 => Err(Error::refused(
                Code::StoreCorrupt,
                part,
                "its bytes are not those that were indexed; index it again",
            )),
            _ => Ok(Member { name: self.name.clone(), size: self.size, sha256 }),
        }
    }
}

/// A payload that is being written.
pub(super) struct PayloadWriter<'p, 'q> {
    hashing: &'p mut dyn Hashing,
    piece: Piece,
    used: usize,
    sealer: Sealer,
    crc: crc32fast::Hasher,
    sink: &'p mut dyn WriteAt,
    start: u64,
    done: u64,
    total: u64,
    progress: &'p mut Progress<'q>,
}

impl<'p, 'q> PayloadWriter<'p, 'q> {
    /// Begins a payload of `total` bytes at `start` of `sink`.
    pub(super) fn new(
        hashing: &'p mut dyn Hashing,
        sealer: Sealer,
        sink: &'p mut dyn WriteAt,
        start: u64,
        total: u64,
        progress: &'p mut Progress<'q>,
    ) -> Result<Self> {
        let (piece, crc) = (hashing.piece()?, crc32fast::Hasher::new());
        Ok(Self { hashing, piece, used: 0, sealer, crc, sink, start, done: 0, total, progress })
    }

    /// Of the ciphertext, all of which was flushed: (tag, CRC-32, SHA-256).
    pub(super) fn finish(self) -> Result<([u8; TAG], u32, [u8; 32])> {
        Ok((self.sealer.finish(), self.crc.finalize(), self.hashing.finish()?))
    }

    /// The next member in order with its digest, when all of it was flushed.
    pub(super) fn hashed(&mut self, member: &Planned<'_>) -> Result<Member> {
        member.hashed(self.hashing.file()?)
    }

    /// Header, content and padding of a member.
    pub(super) fn member(&mut self, member: &Planned<'_>) -> Result<()> {
        self.bytes(&tar::header(&member.name, member.size)?)?;
        match &member.content {
            Content::File(given) => self.file(&*given.source.open()?, member.size, &given.part)?,
            Content::Bytes(data) => self.file(data, member.size, &member.name)?,
        }
        self.piece.marks.push(Mark::End);
        self.bytes(&[0; tar::BLOCK][..tar::padding(member.size)])
    }

    fn file(&mut self, source: &dyn ReadAt, size: u64, part: &str) -> Result<()> {
        if source.size() != size {
            return Err(Error::refused(Code::StoreCorrupt, part, "its length changed while it was packed"));
        }
        let mut at = 0;
        while at < size {
            let room = self.room()?;
            let take = usize::try_from(size - at).map_or(room, |left| left.min(room));
            let range = self.used..self.used + take;
            source.read_at(at, &mut self.piece.plain[range.clone()])?;
            self.used = range.end;
            at += take as u64;
            self.piece.marks.push(Mark::Data(range));
        }
        Ok(())
    }

    /// Bytes that belong to no file.
    pub(super) fn bytes(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let take = self.room()?.min(data.len());
            let (now, later) = data.split_at(take);
            self.piece.plain[self.used..self.used + take].copy_from_slice(now);
            self.used += take;
            data = later;
        }
        Ok(())
    }

    /// Free bytes of the current piece, at least one.
    fn room(&mut self) -> Result<usize> {
        if self.used == PIECE {
            self.flush()?;
        }
        Ok(PIECE - self.used)
    }

    /// Seals and writes what there is, and hands it over to be hashed.
    pub(super) fn flush(&mut self) -> Result<()> {
        let mut piece = std::mem::replace(&mut self.piece, self.hashing.piece()?);
        piece.sealed.resize(self.used, 0);
        self.sealer.update(&piece.plain[..self.used], &mut piece.sealed)?;
        self.crc.update(&piece.sealed);
        self.sink.write_at(self.start + self.done, &piece.sealed)?;
        self.done += self.used as u64;
        self.used = 0;
        self.hashing.pass(piece)?;
        self.progress.report(self.done, self.total)
    }
}
