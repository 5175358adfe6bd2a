//! A deflated data set (PS3.5 A.5: one raw deflate stream, RFC 1951) as a source of its inflated bytes.
//!
//! It is inflated twice: once to learn its length, under the limits, keeping nothing; and again as far as somebody reads.
//! Headers are read forwards, so only the bytes from the last read on are held.

use std::sync::{Mutex, MutexGuard, PoisonError};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use crate::limits::{DICOM_INFLATED, DICOM_INFLATED_FREE, DICOM_INFLATED_RATIO};
use crate::{Code, Error, ReadAt, Result};

const PIECE: usize = 64 << 10;

/// The bytes of a deflated data set.
pub struct Inflated<'a, S: ReadAt + ?Sized> {
    source: &'a S,
    begin: u64,
    part: &'a str,
    size: u64,
    held: Mutex<Held>,
}

/// The inflated bytes from `start` on.
struct Held {
    stream: Stream,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a, S: ReadAt + ?Sized> Inflated<'a, S> {
    /// The data set whose deflate stream begins at byte `begin` of `source`. [`Code::Limit`] when it becomes too large,
    /// [`Code::Dicom`] when it is no deflate stream or ends early.
    pub fn new(source: &'a S, begin: u64, part: &'a str) -> Result<Self> {
        let mut stream = Stream::new(begin);
        let mut piece = Vec::new();
        let mut size = 0;
        while stream.next(source, part, &mut piece)? {
            size += piece.len() as u64;
            piece.clear();
            let taken = stream.position - begin;
            if size > DICOM_INFLATED || (size > DICOM_INFLATED_FREE && size > DICOM_INFLATED_RATIO * taken) {
                let why = format!("{taken} bytes of deflated data set became {size}");
                return Err(Error::refused_at(Code::Limit, part, stream.position, why));
            }
        }
        size += piece.len() as u64;
        let held = Mutex::new(Held { stream: Stream::new(begin), start: 0, bytes: Vec::new() });
        Ok(Self { source, begin, part, size, held })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for Inflated<'_, S> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let mut held = self.held();
        let held = &mut *held;
        if offset < held.start {
            *held = Held { stream: Stream::new(self.begin), start: 0, bytes: Vec::new() };
        }
        let end = offset + into.len() as u64;
        loop {
            let passed = (offset - held.start).min(held.bytes.len() as u64);
            held.bytes.drain(..passed as usize);
            held.start += passed;
            if held.start + held.bytes.len() as u64 >= end && held.start == offset {
                into.copy_from_slice(&held.bytes[..into.len()]);
                return Ok(());
            }
            if !held.stream.next(self.source, self.part, &mut held.bytes)?
                && held.start + (held.bytes.len() as u64) < end
            {
                return Err(Error::source(self.part, "changed while it was inflated"));
            }
        }
    }
}

/// A deflate stream under way.
struct Stream {
    state: Box<InflateState>,
    /// The next byte of the source that was not inflated yet.
    position: u64,
}

impl Stream {
    fn new(begin: u64) -> Self {
        Self { state: InflateState::new_boxed(DataFormat::Raw), position: begin }
    }

    /// Appends the next inflated bytes to `out`; false when the stream has ended.
    fn next<S: ReadAt + ?Sized>(&mut self, source: &S, part: &str, out: &mut Vec<u8>) -> Result<bool> {
        let mut input = [0; PIECE / 4];
        let there = source.size().saturating_sub(self.position).min(input.len() as u64) as usize;
        source.read_at(self.position, &mut input[..there])?;
        let from = out.len();
        out.resize(from + PIECE, 0);
        let done = inflate(&mut self.state, &input[..there], &mut out[from..], MZFlush::None);
        out.truncate(from + done.bytes_written);
        self.position += done.bytes_consumed as u64;
        match done.status {
            Ok(MZStatus::StreamEnd) => Ok(false),
            Ok(_) if done.bytes_written > 0 || done.bytes_consumed > 0 => Ok(true),
            Ok(_) | Err(MZError::Buf) => {
                Err(Error::refused_at(Code::Dicom, part, self.position, "the deflated data set was cut off"))
            }
            Err(_) => Err(Error::refused_at(Code::Dicom, part, self.position, "the data set is no deflate stream")),
        }
    }
}
