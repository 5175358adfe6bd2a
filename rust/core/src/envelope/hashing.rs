//! The pipeline of packing and opening: one thread moves and seals bytes, a second one hashes them.
//!
//! Hashing is the wall: each byte goes through SHA-256 twice, as content of a file and as ciphertext. Both digests run
//! side by side on one core ([`mdg_crypto::sha2x`]) while the other core reads, seals and writes. When the hashing thread
//! falls behind, the moving thread hashes the files that lie whole in its piece, in place of waiting. What is held is
//! [`PIECES`] pieces, whatever the size of the study.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};

use mdg_crypto::sha2x::{Lane, Pair, digests};

use crate::error::{Error, Result};

/// Bytes of one piece: most instances lie whole in one, so that either thread can hash them.
pub(super) const PIECE: usize = 2 << 20;
/// Pieces in use: one filled, one hashed, two on their way.
const PIECES: usize = 4;

/// The same bytes in the clear and sealed.
pub(super) struct Piece {
    /// Tar.
    pub(super) plain: Vec<u8>,
    /// Ciphertext; its length counts.
    pub(super) sealed: Vec<u8>,
    /// Which bytes of `plain` are contents of files.
    pub(super) marks: Vec<Mark>,
}

/// A part of a file inside `plain`.
pub(super) enum Mark {
    /// Content of the current file.
    Data(Range<usize>),
    /// The current file is complete.
    End,
    /// A whole file whose digest is known already.
    Known([u8; 32]),
}

/// The moving thread's side.
pub(super) struct Hashing {
    full: Sender<Piece>,
    free: Receiver<Piece>,
    files: Receiver<[u8; 32]>,
    /// A free piece that was seen while looking whether the hashing thread is behind.
    spare: RefCell<Option<Piece>>,
    /// Whether the file at the end of the last piece goes on in the next one.
    open: Cell<bool>,
}

impl Hashing {
    /// Runs `work` while a second thread hashes what it hands over: (its result, SHA-256 of all ciphertext).
    pub(super) fn beside<T>(work: impl FnOnce(&Hashing) -> Result<T>) -> Result<(T, [u8; 32])> {
        let (full, to_hash) = channel();
        let (emptied, free) = channel();
        let (digest, files) = channel();
        for _ in 0..PIECES {
            let piece = Piece { plain: vec![0; PIECE], sealed: vec![0; PIECE], marks: Vec::new() };
            emptied.send(piece).map_err(|_| stopped())?;
        }
        std::thread::scope(|scope| {
            let hasher = std::thread::Builder::new()
                .spawn_scoped(scope, move || hash(&to_hash, &emptied, &digest))
                .map_err(|error| Error::source("hashing thread", error.to_string()))?;
            let hashing = Hashing { full, free, files, spare: RefCell::new(None), open: Cell::new(false) };
            let done = work(&hashing);
            drop(hashing);
            let ciphertext = hasher.join().map_err(|_| stopped())?;
            Ok((done?, ciphertext))
        })
    }

    /// A piece to fill; waits for the hashing thread when all are on their way.
    pub(super) fn piece(&self) -> Result<Piece> {
        self.spare.take().map_or_else(|| self.free.recv().map_err(|_| stopped()), Ok)
    }

    /// Hands a piece over to be hashed, or what is left of that when the hashing thread is behind.
    pub(super) fn pass(&self, mut piece: Piece) -> Result<()> {
        let goes_on = piece.marks.last().map_or(self.open.get(), |last| matches!(last, Mark::Data(_)));
        let open = self.open.replace(goes_on);
        if self.behind() {
            piece.hash_whole_files(open);
        }
        self.full.send(piece).map_err(|_| stopped())
    }

    /// Whether there is no free piece to go on with.
    fn behind(&self) -> bool {
        let mut spare = self.spare.borrow_mut();
        if spare.is_none() {
            *spare = self.free.try_recv().ok();
        }
        spare.is_none()
    }

    /// SHA-256 of the next file in order; waits until its last piece, which was handed over, is hashed.
    pub(super) fn file(&self) -> Result<[u8; 32]> {
        self.files.recv().map_err(|_| stopped())
    }
}

impl Piece {
    /// Digests of the files that lie whole in this piece, two at a time. `open`: its first bytes belong to a file that
    /// began before.
    fn hash_whole_files(&mut self, open: bool) {
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

fn stopped() -> Error {
    Error::source("hashing thread", "stopped")
}

fn hash(full: &Receiver<Piece>, emptied: &Sender<Piece>, digest: &Sender<[u8; 32]>) -> [u8; 32] {
    let mut pair = Pair::new(); // left: the current file, right: the ciphertext
    for mut piece in full {
        let mut at = 0;
        for mark in piece.marks.drain(..) {
            match mark {
                Mark::Data(range) => {
                    // Ciphertext up to the same place, so that both lanes have about as much to do.
                    let to = range.end.min(piece.sealed.len()).max(at);
                    pair.update(&piece.plain[range], &piece.sealed[at..to]);
                    at = to;
                }
                // Nobody is left to listen when the work has failed.
                Mark::End => drop(digest.send(pair.finish(Lane::Left))),
                Mark::Known(known) => drop(digest.send(known)),
            }
        }
        pair.update(&[], &piece.sealed[at..]);
        drop(emptied.send(piece));
    }
    pair.finish(Lane::Right)
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
        let (full, to_hash) = channel();
        let (emptied, _free) = channel();
        let (digest, files) = channel();
        let mut open = false;
        for (plain, marks) in pieces {
            let mut piece = Piece { sealed: plain.clone(), plain, marks };
            let goes_on = piece.marks.last().map_or(open, |last| matches!(last, Mark::Data(_)));
            if behind {
                piece.hash_whole_files(open);
            }
            open = goes_on;
            full.send(piece).expect("the receiver lives");
        }
        drop(full);
        hash(&to_hash, &emptied, &digest);
        drop(digest);
        files.iter().collect()
    }

    #[test]
    fn a_moving_thread_that_helps_changes_no_digest() {
        for sizes in
            [&[][..], &[0], &[0, 0, 5], &[100], &[99, 1, 0], &[250, 30, 20, 7, 0, 3], &[40, 40, 40, 40, 41, 300]]
        {
            let expected: Vec<[u8; 32]> = (sizes.iter().enumerate())
                .map(|(seed, size)| (0..*size).map(|at| (seed * 31 + at) as u8).collect::<Vec<u8>>())
                .map(|bytes| Sha256::digest(bytes).into())
                .collect();
            assert_eq!(digests_of(sizes, false), expected, "{sizes:?}");
            assert_eq!(digests_of(sizes, true), expected, "{sizes:?} with help");
        }
    }

    #[test]
    fn a_whole_file_is_hashed_by_the_moving_thread_and_a_part_is_not() {
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
