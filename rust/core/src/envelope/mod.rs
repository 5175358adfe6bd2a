//! JMIX envelopes: what every version shares, and a folder for each version.
//!
//! [`manifest`], [`metadata`], [`files`] and [`audit`] are the documents, each a type that [`documents`] reads and writes;
//! [`names`] says where they stand; [`report`] is what a reader says about an envelope. [`v1`] packs, verifies and opens
//! JMIX 1.0. Files, keys, time, randomness and threads are handed in by the caller.

pub mod audit;
pub mod documents;
pub mod files;
pub mod manifest;
pub mod metadata;
pub mod names;
pub mod report;
pub mod v1;

use crate::ReadAt;
use crate::error::Result;

/// A file that is opened when its bytes are needed, so that a study of 100,000 files holds one descriptor.
pub trait Open: Send + Sync {
    /// The file as it was when it was first opened; one that changed since is `E_STORE_CORRUPT`.
    fn open(&self) -> Result<Box<dyn ReadAt + '_>>;
}

/// Runs work that may be done in any order, on as many threads as the caller has.
pub trait Workers {
    /// Calls `work` once for each number below `count`, and returns when all calls have.
    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync));
}

/// Does all work on the caller's own thread.
pub struct Alone;

impl Workers for Alone {
    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(work);
    }
}

/// Tells a caller how far a pass is, at most every [`Progress::STEP`] bytes, and lets it stop the pass by an error.
#[derive(Default)]
pub struct Progress<'a> {
    call: Option<&'a mut dyn FnMut(u64, u64) -> Result<()>>,
    last: u64,
}

impl<'a> Progress<'a> {
    /// Bytes between two calls.
    pub const STEP: u64 = 8 << 20;

    /// Calls `call` with (bytes done, bytes in all).
    pub fn to(call: &'a mut dyn FnMut(u64, u64) -> Result<()>) -> Self {
        Self { call: Some(call), last: 0 }
    }

    /// Asks once more when all is done but the last, visible step.
    pub fn confirm(&mut self) -> Result<()> {
        let done = self.last;
        self.call.as_mut().map_or(Ok(()), |call| call(done, done))
    }

    fn report(&mut self, done: u64, total: u64) -> Result<()> {
        let due = done - self.last >= Self::STEP || done == total;
        match &mut self.call {
            Some(call) if due => {
                self.last = done;
                call(done, total)
            }
            _ => Ok(()),
        }
    }
}
