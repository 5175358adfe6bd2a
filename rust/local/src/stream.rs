//! The pieces of a download, made ahead of its reader: the only read-ahead there is.
//!
//! A new block of 512 KiB from the kernel costs more than filling it (page faults), so a stream keeps up to [`KEPT`]
//! buffers and uses them again. A buffer comes back when its [`Piece`] is dropped: a caller may keep a piece as long as it
//! likes, and the stream then makes another.

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use mdg_core::digest::{Digester, PIECE};
use mdg_core::limits::STREAM_PIECE;
use mdg_core::recipe::Recipe;
use mdg_core::{Code, Error, ReadAt, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::file::OpenFile;

/// Pieces of a stream that are made before they are asked for.
const AHEAD: usize = 1;

/// Bytes read at once when a spool is digested.
const STEP: usize = 1 << 20;

/// The recipe of a finished file, which is read once.
pub fn spool(path: &Path) -> Result<Recipe> {
    let file = OpenFile::open(path)?;
    let mut digester = Digester::new();
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    while at < file.size() {
        let length = (file.size() - at).min(STEP as u64);
        let step = &mut buffer[..length as usize];
        file.read_at(at, step)?;
        digester.update(step);
        at += length;
    }
    if !file.unchanged() {
        return Err(Error::refused(Code::StoreCorrupt, file.part(), "changed while it was digested"));
    }
    Ok(Recipe::spool(digester.finish()))
}

/// Buffers that a pool keeps: one for the piece with the reader, one for the piece ahead.
const KEPT: usize = 2;

/// Buffers waiting to be used again.
#[derive(Default)]
struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// A buffer with any content, or a new one.
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < KEPT {
            waiting.push(buffer);
        }
    }
}

/// A filled buffer and the part of it that is the piece. Dropping it gives the buffer back.
pub struct Piece {
    buffer: Vec<u8>,
    range: Range<usize>,
    pool: Arc<Pool>,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

/// Threads for pieces ahead, apart from those that pack and index for minutes. A piece that no thread has begun when it is
/// asked for is made by who asks, so a busy pool delays nobody.
static AHEAD_POOL: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    // A panic must end one stream, not the process; its reader sees a channel without a sender.
    let builder = ThreadPoolBuilder::new().thread_name(|_| "mdg-stream".into()).panic_handler(|_| ());
    builder.build().ok()
});

/// Pieces of one range.
pub struct Stream {
    making: Arc<Making>,
    /// First byte that no piece has been begun for.
    at: u64,
    end: u64,
    piece: u64,
    ahead: VecDeque<Ahead>,
    broken: Option<Error>,
}

impl Stream {
    /// Bytes `[start, end)` of a release from its files, in pieces that end at multiples of `piece` bytes. `Misuse` for
    /// another number of files; `E_STORE_CORRUPT` when a file has another length than the recipe says.
    pub fn open(recipe: &Arc<Recipe>, paths: &[PathBuf], start: u64, end: u64, piece: u64) -> Result<Self> {
        if !(PIECE as u64..=STREAM_PIECE).contains(&piece) {
            return Err(Error::misuse(format!("a piece has {PIECE} to {STREAM_PIECE} bytes, not {piece}")));
        }
        recipe.plan(start, end)?;
        let files = paths.iter().map(|path| OpenFile::open(path)).collect::<Result<Vec<_>>>()?;
        let [file] = files.as_slice() else {
            return Err(Error::misuse(format!("a spooled release has one file, not {}", files.len())));
        };
        if file.size() != recipe.length() {
            return Err(Error::refused(
                Code::StoreCorrupt,
                file.part(),
                "has another length than when it was digested",
            ));
        }
        let making = Arc::new(Making { recipe: Arc::clone(recipe), files, pool: Arc::default() });
        Ok(Self { making, at: start, end, piece, ahead: VecDeque::new(), broken: None })
    }

    /// The next piece; None at the end. An error stays.
    #[expect(clippy::should_implement_trait, reason = "an error does not end an iterator")]
    pub fn next(&mut self) -> Result<Option<Piece>> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        // The piece that is asked for, and the one behind it.
        while self.ahead.len() <= AHEAD && self.at < self.end {
            let begun = self.begin();
            self.ahead.push_back(begun);
        }
        let Some(next) = self.ahead.pop_front() else { return Ok(None) };
        let piece = if next.begun.swap(true, Ordering::AcqRel) {
            next.made.recv().unwrap_or_else(|_| Err(Error::source("stream", "a worker thread failed")))
        } else {
            self.making.piece(next.range)
        };
        piece.map(Some).inspect_err(|error| self.broken = Some(error.clone()))
    }

    /// Hands the next piece to the pool. Pieces end at multiples of their size, so that whole ones need no byte twice.
    fn begin(&mut self) -> Ahead {
        let until = (self.at - self.at % self.piece).saturating_add(self.piece).min(self.end);
        let range = self.at..until;
        self.at = until;
        let begun = Arc::new(AtomicBool::new(false));
        let (send, made) = sync_channel(1);
        if let Some(pool) = &*AHEAD_POOL {
            let (making, range, begun) = (Arc::clone(&self.making), range.clone(), Arc::clone(&begun));
            pool.spawn(move || {
                if !begun.swap(true, Ordering::AcqRel) {
                    // Nobody receives it when the stream was dropped meanwhile.
                    let _ = send.send(making.piece(range));
                }
            });
        }
        Ahead { range, begun, made }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // What has not been begun is not wanted any more.
        for ahead in &self.ahead {
            ahead.begun.store(true, Ordering::Release);
        }
    }
}

/// What it takes to make a piece, shared with the threads that work ahead.
struct Making {
    recipe: Arc<Recipe>,
    files: Vec<OpenFile>,
    pool: Arc<Pool>,
}

impl Making {
    fn piece(&self, range: Range<u64>) -> Result<Piece> {
        let sources: Vec<&dyn ReadAt> = self.files.iter().map(|file| file as &dyn ReadAt).collect();
        let mut buffer = self.pool.take();
        let found = self.recipe.read(range.start, range.end, &sources, &mut buffer)?;
        Ok(Piece { buffer, range: found, pool: Arc::clone(&self.pool) })
    }
}

/// A piece that is being made, or will be.
struct Ahead {
    range: Range<u64>,
    /// Whoever sets it makes the piece.
    begun: Arc<AtomicBool>,
    made: Receiver<Result<Piece>>,
}
