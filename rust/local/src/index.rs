//! One pass over each of many files: header facts, SHA-256 and check table.
//!
//! A worker keeps two files open and hashes them side by side, because two independent messages use a core nearly twice as
//! well as one; when a file ends, the next takes its lane. Files are read once, by positioned reads of [`PIECE`] bytes into
//! the two buffers of the worker, and headers come out of the first of them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use mdg_core::dicom::{self, Header};
use mdg_core::digest::{Checker, Digest, Digester};
use mdg_core::{Error, ReadAt, Result};
use mdg_crypto::sha2x::{Lane, Pair};
use rustix::process::nice;

use crate::file::{OpenFile, Stamp};
use crate::threads::cores;

/// Bytes of one read: many pieces of the check table, and past the header of nearly every file.
const PIECE: usize = 1 << 20;

/// How far the workers stand back behind the threads that answer requests and commit what was found (nice(2), which on
/// Linux counts for one thread): else each of these waits for a worker to use up its slice, several times a batch.
const YIELD: i32 = 10;

/// What one pass over one file found.
pub struct Outcome {
    /// Modification time in nanoseconds of UTC, 0 when the file could not be opened.
    pub mtime_ns: i64,
    /// Missing when the file could not be read, or changed under the reader.
    pub digest: Option<Digest>,
    /// The facts, or why there are none.
    pub header: Result<Header>,
    /// The file changed while it was read, so that nothing of this holds.
    pub changed: bool,
}

/// Outcomes in the order of `paths`, by `threads` workers (0: one for each core).
pub fn index(paths: &[PathBuf], threads: usize) -> Vec<Outcome> {
    let workers = if threads == 0 { cores() } else { threads }.clamp(1, paths.len().div_ceil(2).max(1));
    let queue = Queue { paths, next: AtomicUsize::new(0) };
    let mut found = thread::scope(|scope| {
        let yielding = || {
            // It only fails where the system knows no priorities, and then there is nobody to yield to.
            let _ = nice(YIELD);
            work(&queue)
        };
        // Where the system gives fewer threads, they do the same work, and where it gives none, the caller does.
        let begin = |_| thread::Builder::new().spawn_scoped(scope, yielding).ok();
        let workers: Vec<_> = (0..workers).filter_map(begin).collect();
        let mut found = if workers.is_empty() { work(&queue) } else { Vec::new() };
        for worker in workers {
            match worker.join() {
                Ok(more) => found.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        found
    });
    found.sort_unstable_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, outcome)| outcome).collect()
}

struct Queue<'a> {
    paths: &'a [PathBuf],
    next: AtomicUsize,
}

impl<'a> Queue<'a> {
    fn take(&self) -> Option<(usize, &'a Path)> {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        self.paths.get(place).map(|path| (place, path.as_path()))
    }
}

fn work(queue: &Queue<'_>) -> Vec<(usize, Outcome)> {
    let mut found = Vec::new();
    let mut pair = Pair::new();
    let mut left = Track::new(Lane::Left);
    let mut right = Track::new(Lane::Right);
    loop {
        left.advance(queue, &mut pair, &mut found);
        right.advance(queue, &mut pair, &mut found);
        let common = match (left.unhashed.len(), right.unhashed.len()) {
            (0, 0) => return found,
            (0, rest) | (rest, 0) => rest,
            (a, b) => a.min(b),
        };
        pair.update(left.next(common), right.next(common));
    }
}

/// One lane of a worker: the file in it and the bytes of it that are at hand.
struct Track {
    lane: Lane,
    job: Option<Job>,
    buffer: Vec<u8>,
    /// The part of `buffer` that was not hashed yet.
    unhashed: Range<usize>,
}

struct Job {
    place: usize,
    file: OpenFile,
    read: u64,
    checker: Checker,
    header: Option<Result<Header>>,
}

impl Track {
    fn new(lane: Lane) -> Self {
        Self { lane, job: None, buffer: Vec::new(), unhashed: 0..0 }
    }

    /// Up to `length` of the bytes at hand, for the hash.
    fn next(&mut self, length: usize) -> &[u8] {
        let start = self.unhashed.start;
        let end = self.unhashed.end.min(start + length);
        self.unhashed.start = end;
        &self.buffer[start..end]
    }

    /// Sees to it that there are bytes at hand, from this file or the next ones, unless the queue is empty.
    fn advance(&mut self, queue: &Queue<'_>, pair: &mut Pair, found: &mut Vec<(usize, Outcome)>) {
        while self.unhashed.is_empty() {
            let Some(mut job) = self.job.take() else {
                let Some((place, path)) = queue.take() else { return };
                match OpenFile::open_without_links(path) {
                    Ok(file) => self.job = Some(Job { place, file, read: 0, checker: Checker::new(), header: None }),
                    Err(error) => found.push((place, Outcome::failed(0, error))),
                }
                continue;
            };
            match job.read_piece(&mut self.buffer) {
                Ok(0) => found.push((job.place, job.finish(pair.finish(self.lane)))),
                Ok(length) => {
                    self.unhashed = 0..length;
                    self.job = Some(job);
                }
                Err(error) => {
                    // What the lane has of the broken file must not run into the next one.
                    pair.finish(self.lane);
                    let mtime_ns = job.file.stamp().mtime_ns;
                    found.push((job.place, Outcome::failed(mtime_ns, error).changed(!job.file.unchanged())));
                }
            }
        }
    }
}

impl Job {
    /// Reads the next piece into `buffer` and says how long it is, 0 at the end.
    fn read_piece(&mut self, buffer: &mut Vec<u8>) -> Result<usize> {
        let Stamp { size, .. } = self.file.stamp();
        let length = (size - self.read).min(PIECE as u64) as usize;
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let piece = &mut buffer[..length];
        self.file.read_at(self.read, piece)?;
        self.read += length as u64;
        self.checker.update(piece);
        if self.header.is_none() {
            let source = Begun { first: piece, file: &self.file };
            self.header = Some(dicom::read(&source, self.file.part()));
        }
        Ok(length)
    }

    fn finish(self, sha256: [u8; 32]) -> Outcome {
        let changed = !self.file.unchanged();
        let header = self.header.unwrap_or_else(|| Err(Error::source(self.file.part(), "was not read")));
        let digest = (!changed).then(|| Digest { sha256, check: self.checker.finish() });
        Outcome { mtime_ns: self.file.stamp().mtime_ns, digest, header, changed }
    }
}

impl Outcome {
    fn failed(mtime_ns: i64, error: Error) -> Self {
        Self { mtime_ns, digest: None, header: Err(error), changed: false }
    }

    fn changed(self, changed: bool) -> Self {
        Self { changed, ..self }
    }
}

/// A file whose first piece is in memory.
struct Begun<'a> {
    first: &'a [u8],
    file: &'a OpenFile,
}

impl ReadAt for Begun<'_> {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).ok();
        match start.and_then(|start| self.first.get(start..)?.get(..into.len())) {
            Some(bytes) => {
                into.copy_from_slice(bytes);
                Ok(())
            }
            None => self.file.read_at(offset, into),
        }
    }
}

/// The facts of one DICOM file; links are followed, because a person named it.
pub fn header(path: &Path) -> Result<Header> {
    let file = OpenFile::open(path)?;
    dicom::read(&file, file.part())
}

/// SHA-256 and check table of one file, read once.
pub fn digest(path: &Path) -> Result<Digest> {
    let file = OpenFile::open_without_links(path)?;
    let mut digester = Digester::new();
    let mut buffer = vec![0; PIECE.min(usize::try_from(file.size()).unwrap_or(PIECE))];
    let mut read = 0;
    while read < file.size() {
        let length = (file.size() - read).min(PIECE as u64) as usize;
        file.read_at(read, &mut buffer[..length])?;
        digester.update(&buffer[..length]);
        read += length as u64;
    }
    if file.unchanged() {
        Ok(digester.finish())
    } else {
        Err(Error::source(file.part(), "changed while it was read; try again when it is at rest"))
    }
}
