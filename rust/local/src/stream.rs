//! The pieces of a download, made ahead of its reader: the only read-ahead there is.
//!
//! A stream asks the recipe what a piece needs, reads it from the files at its offsets and has the recipe fill the piece.
//! The piece is made in a buffer of the caller's kind, so that it need not be copied on its way; bytes that are read beside
//! it go into buffers that are used again. At most three pieces of a stream are alive: one that the reader sends, one that
//! it has asked for, and one ahead.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use mdg_core::digest::PIECE;
use mdg_core::limits::STREAM_PIECE;
use mdg_core::recipe::Kind;
use mdg_core::{Code, Error, ReadAt, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::file::OpenFile;

/// Pieces of a stream that are made before they are asked for.
const AHEAD: usize = 1;

/// Threads for pieces ahead, apart from those that pack and index for minutes. A piece that no thread has begun when it is
/// asked for is made by who asks, so a busy pool delays nobody.
static AHEAD_POOL: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    // A panic must end one stream, not the process; its reader sees a channel without a sender.
    let builder = ThreadPoolBuilder::new().thread_name(|_| "mdg-stream".into()).panic_handler(|_| ());
    builder.build().ok()
});

/// Where a piece is made.
pub trait Room: AsMut<[u8]> + Send + 'static {}

impl<R: AsMut<[u8]> + Send + 'static> Room for R {}

/// The pieces of one range.
pub struct Stream<R: Room> {
    making: Arc<Making>,
    /// First byte that no piece has been begun for.
    at: u64,
    end: u64,
    piece: u64,
    ahead: VecDeque<Piece<R>>,
}

impl<R: Room> Stream<R> {
    /// Bytes `[start, end)` of a release from its files, in pieces that end at multiples of `piece` bytes. `Misuse` for
    /// another number of files; `E_STORE_CORRUPT` when a file has another length than the recipe says.
    pub fn open(recipe: Arc<dyn Kind>, paths: &[PathBuf], start: u64, end: u64, piece: u64) -> Result<Self> {
        if !(PIECE as u64..=STREAM_PIECE).contains(&piece) {
            return Err(Error::misuse(format!("a piece has {PIECE} to {STREAM_PIECE} bytes, not {piece}")));
        }
        recipe.plan(start, end)?;
        let files = paths.iter().map(|path| OpenFile::open(path)).collect::<Result<Vec<_>>>()?;
        let sizes = recipe.sources();
        if files.len() != sizes.len() {
            return Err(Error::misuse(format!("this release has {} files, not {}", sizes.len(), files.len())));
        }
        if let Some((file, _)) = files.iter().zip(&sizes).find(|(file, size)| file.size() != **size) {
            let why = "has another length than when it was written";
            return Err(Error::refused(Code::StoreCorrupt, file.part(), why));
        }
        let making = Arc::new(Making { recipe, files, beside: Mutex::default(), broken: OnceLock::new() });
        Ok(Self { making, at: start, end, piece, ahead: VecDeque::new() })
    }

    /// The next piece, of which [`Piece::wait`] gives the bytes; None at the end. `room` makes a place for as many bytes as
    /// it is told: for this piece, if that was not done yet, and for the one behind it. After an error of one piece every
    /// call is that error.
    pub fn next(&mut self, mut room: impl FnMut(usize) -> Result<R>) -> Result<Option<Piece<R>>> {
        if let Some(error) = self.making.broken.get() {
            return Err(error.clone());
        }
        while self.ahead.len() <= AHEAD && self.at < self.end {
            // Pieces end at multiples of their size, so that whole ones need no byte twice.
            let until = (self.at - self.at % self.piece).saturating_add(self.piece).min(self.end);
            let room = room((until - self.at) as usize)?;
            self.ahead.push_back(Piece::begin(&self.making, self.at..until, room));
            self.at = until;
        }
        Ok(self.ahead.pop_front())
    }
}

/// A piece that is being made, or will be.
pub struct Piece<R: Room> {
    making: Arc<Making>,
    range: Range<u64>,
    /// Whoever takes it makes the piece.
    room: Arc<Mutex<Option<R>>>,
    made: Receiver<Result<R>>,
}

impl<R: Room> Piece<R> {
    /// Hands a piece to the pool.
    fn begin(making: &Arc<Making>, range: Range<u64>, room: R) -> Self {
        let room = Arc::new(Mutex::new(Some(room)));
        let (send, made) = sync_channel(1);
        let piece = Self { making: Arc::clone(making), range: range.clone(), room: Arc::clone(&room), made };
        if let Some(pool) = &*AHEAD_POOL {
            let making = Arc::clone(making);
            pool.spawn(move || {
                if let Some(room) = take(&room) {
                    // Nobody receives it when the stream was dropped meanwhile.
                    let _ = send.send(making.make(range, room));
                }
            });
        }
        piece
    }

    /// Its bytes; waits until they are made, or makes them now.
    pub fn wait(self) -> Result<R> {
        let made = match take(&self.room) {
            Some(room) => self.making.make(self.range.clone(), room),
            None => self.made.recv().unwrap_or_else(|_| Err(Error::source("stream", "a worker thread failed"))),
        };
        made.inspect_err(|error| {
            let _ = self.making.broken.set(error.clone());
        })
    }
}

impl<R: Room> Drop for Piece<R> {
    fn drop(&mut self) {
        // What has not been begun is not wanted any more.
        drop(take(&self.room));
    }
}

fn take<R>(room: &Mutex<Option<R>>) -> Option<R> {
    room.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What it takes to make a piece, shared with the threads that work ahead.
struct Making {
    recipe: Arc<dyn Kind>,
    files: Vec<OpenFile>,
    /// Buffers for what is read beside a piece; as many as were in use at once.
    beside: Mutex<Vec<Vec<u8>>>,
    /// Why the stream ends early.
    broken: OnceLock<Error>,
}

impl Making {
    fn make<R: Room>(&self, range: Range<u64>, mut room: R) -> Result<R> {
        let place = room.as_mut();
        let mut used = Vec::new();
        for need in self.recipe.plan(range.start, range.end)? {
            let file = self.files.get(need.source).ok_or_else(|| Error::misuse("a recipe names its own sources"))?;
            let length = (need.end - need.start) as usize;
            match need.place {
                Some(at) => file.read_at(need.start, &mut place[at..at + length])?,
                None => {
                    let mut buffer = self.buffers().pop().unwrap_or_default();
                    // Shrinking or staying costs nothing; only a buffer that grows is cleared first.
                    buffer.resize(length, 0);
                    file.read_at(need.start, &mut buffer)?;
                    used.push(buffer);
                }
            }
        }
        let buffers: Vec<&[u8]> = used.iter().map(Vec::as_slice).collect();
        self.recipe.fill(range.start, range.end, &buffers, place)?;
        self.buffers().append(&mut used);
        Ok(room)
    }

    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
