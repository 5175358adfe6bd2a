//! Hashing what a payload consists of, piece by piece: the content of each file and all of the ciphertext.
//!
//! Hashing is the wall of packing and opening, because each byte goes through SHA-256 twice. [`PieceHasher`] runs both
//! digests side by side on one core ([`mdg_crypto::sha2x`]). Who writes or reads a payload hands its pieces to a
//! [`Hashing`]: [`InTurn`] hashes them at once, and a caller that has threads lets another core do it.

use std::collections::VecDeque;
use std::ops::Range;

use mdg_crypto::sha2x::{Lane, Pair, digests};

use crate::error::{Error, Result};

/// Bytes of one piece: most instances lie whole in one, so that either thread can hash them.
pub const PIECE: usize = 2 << 20;

/// The same bytes in the clear and sealed.
pub struct Piece {
    /// Tar.
    pub plain: Vec<u8>,
    /// Ciphertext; its length counts.
    pub sealed: Vec<u8>,
    /// Which bytes of `plain` are contents of files.
    pub marks: Vec<Mark>,
}

/// A part of a file inside [`Piece::plain`].
pub enum Mark {
    /// Content of the current file.
    Data(Range<usize>),
    /// The current file is complete.
    End,
    /// A whole file whose digest is known already.
    Known([u8; 32]),
}

/// Takes the pieces of one payload in order and gives the digests of what is in them.
pub trait Hashing {
    /// A piece to fill, of [`PIECE`] bytes on both sides; may wait until one is free.
    fn piece(&mut self) -> Result<Piece>;

    /// The next piece of the payload.
    fn pass(&mut self, piece: Piece) -> Result<()>;

    /// SHA-256 of the next file in order, the last piece of which was passed.
    fn file(&mut self) -> Result<[u8; 32]>;

    /// SHA-256 of all ciphertext that was passed; the last call.
    fn finish(&mut self) -> Result<[u8; 32]>;
}

/// Hashes each piece when it is passed, on the caller's own thread.
#[derive(Default)]
pub struct InTurn {
    hasher: PieceHasher,
    files: VecDeque<[u8; 32]>,
    free: Option<Piece>,
}

impl Hashing for InTurn {
    fn piece(&mut self) -> Result<Piece> {
        Ok(self.free.take().unwrap_or_else(Piece::empty))
    }

    fn pass(&mut self, mut piece: Piece) -> Result<()> {
        self.hasher.update(&mut piece, |digest| self.files.push_back(digest));
        self.free = Some(piece);
        Ok(())
    }

    fn file(&mut self) -> Result<[u8; 32]> {
        self.files.pop_front().ok_or_else(|| Error::misuse("no file has ended that was not asked for"))
    }

    fn finish(&mut self) -> Result<[u8; 32]> {
        Ok(std::mem::take(&mut self.hasher).finish())
    }
}

/// The digests of one payload under way.
pub struct PieceHasher(Pair); // left: the current file, right: the ciphertext

impl Default for PieceHasher {
    fn default() -> Self {
        Self(Pair::new())
    }
}

impl PieceHasher {
    /// Hashes the next piece and empties its marks; `file` is given the digest of each file that ends in it.
    pub fn update(&mut self, piece: &mut Piece, mut file: impl FnMut([u8; 32])) {
        let mut at = 0;
        for mark in piece.marks.drain(..) {
            match mark {
                Mark::Data(range) => {
                    // Ciphertext up to the same place, so that both lanes have about as much to do.
                    let to = range.end.min(piece.sealed.len()).max(at);
                    self.0.update(&piece.plain[range], &piece.sealed[at..to]);
                    at = to;
                }
                Mark::End => file(self.0.finish(Lane::Left)),
                Mark::Known(known) => file(known),
            }
        }
        self.0.update(&[], &piece.sealed[at..]);
    }

    /// SHA-256 of all ciphertext.
    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        self.0.finish(Lane::Right)
    }
}

impl Piece {
    /// Room for a whole piece.
    #[must_use]
    pub fn empty() -> Self {
        Self { plain: vec![0; PIECE], sealed: vec![0; PIECE], marks: Vec::new() }
    }

    /// Whether the file at the end of this piece goes on in the next one; `open`: whether one did in the piece before.
    #[must_use]
    pub fn goes_on(&self, open: bool) -> bool {
        self.marks.last().map_or(open, |last| matches!(last, Mark::Data(_)))
    }

    /// Digests of the files that lie whole in this piece, two at a time. `open`: its first bytes belong to a file that
    /// began before.
    pub fn hash_whole_files(&mut self, open: bool) {
        let mut parts = usize::from(open); // of the current file so far
        let mut whole = Vec::new();
        let mut marks = Vec::with_capacity(self.marks.len());
        for mark in self.marks.drain(..) {
            match (mark, marks.last()) {
                (Mark::Data(range), _) => {
                    parts += 1;
                    marks.push(Mark::Data(range));
                    continue;
                }
                (Mark::End, Some(Mark::Data(range))) if parts == 1 => whole.push((marks.len() - 1, range.clone())),
                (mark, _) => marks.push(mark),
            }
            parts = 0;
        }
        for two in whole.chunks(2) {
            let bytes = |index: usize| two.get(index).map_or(&[][..], |(_, range)| &self.plain[range.clone()]);
            let (left, right) = digests(bytes(0), bytes(1));
            for ((at, _), digest) in two.iter().zip([left, right]) {
                marks[*at] = Mark::Known(digest);
            }
        }
        self.marks = marks;
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// Files of these sizes in pieces of 100 bytes; each digest whether it is made by the one thread or the other.
    fn digests_of(sizes: &[usize], behind: bool) -> Vec<[u8; 32]> {
        let mut pieces = vec![(Vec::new(), Vec::new())];
        for (seed, size) in sizes.iter().enumerate() {
            let mut left = *size;
            while left > 0 {
                let (plain, marks) = pieces.last_mut().expect("one at least");
                let take = left.min(100 - plain.len());
                if take == 0 {
                    pieces.push((Vec::new(), Vec::new()));
                    continue;
                }
                marks.push(Mark::Data(plain.len()..plain.len() + take));
                plain.extend((0..take).map(|at| (seed * 31 + size - left + at) as u8));
                left -= take;
            }
            pieces.last_mut().expect("one at least").1.push(Mark::End);
        }
        let mut hashing = InTurn::default();
        let mut open = false;
        for (plain, marks) in pieces {
            let mut piece = Piece { sealed: plain.clone(), plain, marks };
            let goes_on = piece.goes_on(open);
            if behind {
                piece.hash_whole_files(open);
            }
            open = goes_on;
            hashing.pass(piece).expect("memory");
        }
        let digests = sizes.iter().map(|_| hashing.file().expect("it has ended")).collect();
        assert!(hashing.file().is_err());
        digests
    }

    #[test]
    fn files_that_were_hashed_before_change_no_digest() {
        for sizes in
            [&[][..], &[0], &[0, 0, 5], &[100], &[99, 1, 0], &[250, 30, 20, 7, 0, 3], &[40, 40, 40, 40, 41, 300]]
        {
            let expected: Vec<[u8; 32]> = (sizes.iter().enumerate())
                .map(|(seed, size)| (0..*size).map(|at| (seed * 31 + at) as u8).collect::<Vec<u8>>())
                .map(|bytes| Sha256::digest(bytes).into())
                .collect();
            assert_eq!(digests_of(sizes, false), expected, "{sizes:?}");
            assert_eq!(digests_of(sizes, true), expected, "{sizes:?} hashed before");
        }
    }

    #[test]
    fn a_whole_file_is_hashed_before_and_a_part_is_not() {
        let data = Mark::Data;
        let marks = vec![data(0..10), Mark::End, data(10..20), Mark::End, Mark::End, data(20..30)];
        let mut piece = Piece { plain: vec![7; 30], sealed: vec![0; 30], marks };
        piece.hash_whole_files(true);
        let kinds: Vec<_> = piece.marks.iter().map(std::mem::discriminant).collect();
        let known = std::mem::discriminant(&Mark::Known([0; 32]));
        let part = std::mem::discriminant(&data(0..0));
        let end = std::mem::discriminant(&Mark::End);
        assert_eq!(kinds, [part, end, known, end, part]);
    }
}
