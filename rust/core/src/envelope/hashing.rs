//! The pipeline of packing and opening: one thread moves and seals bytes, a second one hashes them.
//!
//! Hashing is the wall: each byte goes through SHA-256 twice, as content of a file and as ciphertext. Both digests run
//! side by side on one core ([`mdg_crypto::sha2x`]) while the other core reads, seals and writes. What is held is
//! [`PIECES`] pieces, whatever the size of the study.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};

use mdg_crypto::sha2x::{Lane, Pair};

use crate::error::{Error, Result};

/// Bytes of one piece.
pub(super) const PIECE: usize = 1 << 20;
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
}

/// The moving thread's side.
pub(super) struct Hashing {
    full: Sender<Piece>,
    free: Receiver<Piece>,
    files: Receiver<[u8; 32]>,
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
            let hasher = scope.spawn(move || hash(&to_hash, &emptied, &digest));
            let hashing = Hashing { full, free, files };
            let done = work(&hashing);
            drop(hashing);
            let ciphertext = hasher.join().map_err(|_| stopped())?;
            Ok((done?, ciphertext))
        })
    }

    /// A piece to fill; waits for the hashing thread when all are on their way.
    pub(super) fn piece(&self) -> Result<Piece> {
        self.free.recv().map_err(|_| stopped())
    }

    /// Hands a piece over to be hashed.
    pub(super) fn pass(&self, piece: Piece) -> Result<()> {
        self.full.send(piece).map_err(|_| stopped())
    }

    /// SHA-256 of the next file in order; waits until its last piece, which was handed over, is hashed.
    pub(super) fn file(&self) -> Result<[u8; 32]> {
        self.files.recv().map_err(|_| stopped())
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
            }
        }
        pair.update(&[], &piece.sealed[at..]);
        drop(emptied.send(piece));
    }
    pair.finish(Lane::Right)
}
