//! Threads for the core: hashing beside the thread that moves bytes, and independent work on every core.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use mdg_core::envelope::Workers;
use mdg_core::envelope::v1::hashing::{Hashing, Piece, PieceHasher};
use mdg_core::{Error, Result};

/// Pieces in use: one filled, one hashed, two on their way.
const PIECES: usize = 4;

/// Threads that this machine runs at once.
#[must_use]
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Hashes on a thread of its own while the caller reads, seals and writes.
///
/// When the hashing thread falls behind, the caller hashes the files that lie whole in its piece, in place of waiting.
/// What is held is [`PIECES`] pieces, whatever the size of the study.
pub struct Beside {
    full: Option<Sender<Piece>>,
    free: Receiver<Piece>,
    files: Receiver<[u8; 32]>,
    thread: Option<JoinHandle<[u8; 32]>>,
    /// A free piece that was seen while looking whether the hashing thread is behind.
    spare: Option<Piece>,
    /// Whether the file at the end of the last piece goes on in the next one.
    open: bool,
}

impl Beside {
    /// Starts the thread.
    pub fn start() -> Result<Self> {
        let (full, to_hash) = channel();
        let (emptied, free) = channel();
        let (digest, files) = channel();
        for _ in 0..PIECES {
            emptied.send(Piece::empty()).map_err(|_| stopped())?;
        }
        let thread = thread::Builder::new()
            .name("mdg-hash".into())
            .spawn(move || hash(&to_hash, &emptied, &digest))
            .map_err(|error| Error::source("hashing thread", error.to_string()))?;
        Ok(Self { full: Some(full), free, files, thread: Some(thread), spare: None, open: false })
    }

    /// Whether there is no free piece to go on with.
    fn behind(&mut self) -> bool {
        if self.spare.is_none() {
            self.spare = self.free.try_recv().ok();
        }
        self.spare.is_none()
    }

    /// Ends the thread when it has hashed what it was given.
    fn join(&mut self) -> Result<[u8; 32]> {
        self.full = None;
        self.thread.take().and_then(|thread| thread.join().ok()).ok_or_else(stopped)
    }
}

impl Hashing for Beside {
    fn piece(&mut self) -> Result<Piece> {
        self.spare.take().map_or_else(|| self.free.recv().map_err(|_| stopped()), Ok)
    }

    fn pass(&mut self, mut piece: Piece) -> Result<()> {
        let open = self.open;
        self.open = piece.goes_on(open);
        if self.behind() {
            piece.hash_whole_files(open);
        }
        self.full.as_ref().and_then(|full| full.send(piece).ok()).ok_or_else(stopped)
    }

    fn file(&mut self) -> Result<[u8; 32]> {
        self.files.recv().map_err(|_| stopped())
    }

    fn finish(&mut self) -> Result<[u8; 32]> {
        self.join()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // After an error nobody wants the digest, and the thread must not outlive the files that it was hashing.
        let _ = self.join();
    }
}

fn stopped() -> Error {
    Error::source("hashing thread", "stopped")
}

fn hash(full: &Receiver<Piece>, emptied: &Sender<Piece>, digest: &Sender<[u8; 32]>) -> [u8; 32] {
    let mut hasher = PieceHasher::default();
    for mut piece in full {
        // Nobody is left to listen when the work has failed.
        hasher.update(&mut piece, |file| {
            let _ = digest.send(file);
        });
        drop(emptied.send(piece));
    }
    hasher.finish()
}

/// As many threads as there are cores, for as long as one call takes.
pub struct EveryCore;

impl Workers for EveryCore {
    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let take = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                work(index);
            }
        };
        thread::scope(|scope| {
            for _ in 1..cores().min(count) {
                // Where the system gives no more threads, the caller does the work.
                let _ = thread::Builder::new().spawn_scoped(scope, take);
            }
            take();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use mdg_core::envelope::v1::hashing::{InTurn, Mark};

    use super::*;

    /// Pieces of a payload with files of these sizes, as a writer makes them.
    fn digests(hashing: &mut dyn Hashing, sizes: &[usize]) -> Vec<[u8; 32]> {
        let mut used = 0;
        let mut piece = hashing.piece().expect("free");
        for (seed, size) in sizes.iter().enumerate() {
            let mut left = *size;
            while left > 0 {
                if used == piece.plain.len() {
                    piece.sealed.copy_from_slice(&piece.plain);
                    let next = hashing.piece().expect("free");
                    hashing.pass(std::mem::replace(&mut piece, next)).expect("hashed");
                    used = 0;
                }
                let take = left.min(piece.plain.len() - used);
                piece.plain[used..used + take].fill(seed as u8);
                piece.marks.push(Mark::Data(used..used + take));
                (used, left) = (used + take, left - take);
            }
            piece.marks.push(Mark::End);
        }
        piece.sealed.resize(used, 0);
        piece.sealed.copy_from_slice(&piece.plain[..used]);
        hashing.pass(piece).expect("hashed");
        let files = sizes.iter().map(|_| hashing.file().expect("ended"));
        let mut all: Vec<_> = files.collect();
        all.push(hashing.finish().expect("hashed"));
        all
    }

    #[test]
    fn a_second_thread_gives_the_digests_of_one() {
        for sizes in [&[][..], &[0], &[7, 0, 3 << 20, 100], &[1 << 20; 31], &[9 << 20, 5]] {
            let alone = digests(&mut InTurn::default(), sizes);
            assert_eq!(digests(&mut Beside::start().expect("a thread"), sizes), alone, "{sizes:?}");
        }
    }

    #[test]
    fn a_pass_that_is_given_up_leaves_no_thread() {
        let mut hashing = Beside::start().expect("a thread");
        let piece = hashing.piece().expect("free");
        hashing.pass(piece).expect("hashed");
        drop(hashing);
    }

    #[test]
    fn each_number_is_worked_on_once() {
        for count in [0, 1, 2, 1000] {
            let seen: Vec<_> = (0..count).map(|_| AtomicU32::new(0)).collect();
            EveryCore.each(count, &|index| {
                seen[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(seen.iter().all(|times| times.load(Ordering::Relaxed) == 1), "{count}");
        }
    }
}
