//! One AES-256-GCM message (NIST SP 800-38D) sealed or opened in pieces of any length, over aws-lc's EVP interface.
//!
//! No additional data, 12-byte IV, 16-byte tag: what `payload.encrypted` of JMIX 1.0 needs and nothing more. The caller
//! answers for a (key, IV) pair that seals one message only. [`Opener`] gives out plaintext **before** the tag has been
//! checked, because a message larger than memory cannot be held back here: until [`Opener::finish`] says yes, the caller
//! keeps every byte where nobody can use it.
//!
//! aws-lc wipes its context, and with it the key schedule, when the context is freed; it is freed on every path, also when
//! a `Sealer` or `Opener` is dropped half-way.

use std::ffi::c_int;
use std::fmt;
use std::ptr::{self, NonNull};

use aws_lc_sys as aws;

/// Bytes of the tag.
pub const TAG: usize = 16;

/// Longest message: 2^32 - 2 blocks of 16 bytes (SP 800-38D 5.2.1.1).
pub const LONGEST: u64 = (1 << 36) - 32;

/// Largest piece given to one EVP call, whose length is a C `int`.
const CALL: usize = 1 << 30;

/// Why a message was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// More than [`LONGEST`] bytes; nothing of the refused piece was processed.
    TooLong,
    /// The tag is not that of this key, IV and ciphertext: all plaintext of the message is to be thrown away.
    Tag,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "an AES-GCM message holds at most 68,719,476,704 bytes",
            Self::Tag => "the AES-GCM tag does not match",
        })
    }
}

impl std::error::Error for Error {}

/// Encrypts one message.
pub struct Sealer(Context);

impl Sealer {
    /// Begins a message. A (`key`, `iv`) pair must never seal two different ones.
    #[must_use]
    pub fn new(key: &[u8; 32], iv: &[u8; 12]) -> Self {
        Self(Context::new(Direction::Seal, key, iv))
    }

    /// Encrypts the next piece into `output`.
    ///
    /// # Panics
    /// When the two lengths differ.
    pub fn update(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), Error> {
        self.0.update(input, output)
    }

    /// Encrypts the next piece where it stands.
    pub fn update_in_place(&mut self, data: &mut [u8]) -> Result<(), Error> {
        self.0.update_in_place(data)
    }

    /// The tag over everything that was given.
    #[must_use]
    pub fn finish(self) -> [u8; TAG] {
        self.0.tag()
    }
}

/// Decrypts one message; what [`Opener::update`] gives is unproven until [`Opener::finish`] has returned `Ok`.
pub struct Opener(Context);

impl Opener {
    /// Begins a message.
    #[must_use]
    pub fn new(key: &[u8; 32], iv: &[u8; 12]) -> Self {
        Self(Context::new(Direction::Open, key, iv))
    }

    /// Decrypts the next piece into `output`.
    ///
    /// # Panics
    /// When the two lengths differ.
    pub fn update(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), Error> {
        self.0.update(input, output)
    }

    /// Decrypts the next piece where it stands.
    pub fn update_in_place(&mut self, data: &mut [u8]) -> Result<(), Error> {
        self.0.update_in_place(data)
    }

    /// Compares the tag in constant time. Forgetting this call leaves the whole message unauthenticated.
    pub fn finish(self, tag: &[u8; TAG]) -> Result<(), Error> {
        self.0.check(tag)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Seal,
    Open,
}

/// An EVP context that holds key and IV, owned and freed here.
struct Context {
    raw: NonNull<aws::EVP_CIPHER_CTX>,
    direction: Direction,
    passed: u64,
}

// SAFETY: the context is reached through its one owner only (`&mut self` or by value), and aws-lc ties no context to the
// thread that made it.
unsafe impl Send for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: `raw` came from EVP_CIPHER_CTX_new, is freed nowhere else, and is not used after this.
        unsafe { aws::EVP_CIPHER_CTX_free(self.raw.as_ptr()) }
    }
}

impl Context {
    fn new(direction: Direction, key: &[u8; 32], iv: &[u8; 12]) -> Self {
        // SAFETY: takes no argument; null is handled below.
        let raw = unsafe { aws::EVP_CIPHER_CTX_new() };
        let raw = NonNull::new(raw).expect("aws-lc allocates a cipher context unless memory has run out");
        let this = Self { raw, direction, passed: 0 };
        let init = match direction {
            Direction::Seal => aws::EVP_EncryptInit_ex,
            Direction::Open => aws::EVP_DecryptInit_ex,
        };
        // SAFETY: `raw` is a live context; `key` and `iv` are 32 and 12 readable bytes, the lengths AES-256-GCM reads; no
        // engine is named. The bytes are copied before the call returns.
        let done = unsafe { init(raw.as_ptr(), aws::EVP_aes_256_gcm(), ptr::null_mut(), key.as_ptr(), iv.as_ptr()) };
        assert_eq!(done, 1, "AES-256-GCM takes any key of 32 and any IV of 12 bytes");
        this
    }

    fn update(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), Error> {
        assert_eq!(input.len(), output.len(), "a piece and its room have one length");
        self.count(input.len())?;
        for (from, to) in input.chunks(CALL).zip(output.chunks_mut(CALL)) {
            // SAFETY: `from` is readable and `to` writable for `from.len()` bytes, and a shared and a unique borrow do not
            // overlap.
            unsafe { self.step(to.as_mut_ptr(), from.as_ptr(), from.len()) }
        }
        Ok(())
    }

    fn update_in_place(&mut self, data: &mut [u8]) -> Result<(), Error> {
        self.count(data.len())?;
        for piece in data.chunks_mut(CALL) {
            let at = piece.as_mut_ptr();
            // SAFETY: `piece` is readable and writable for its length; aws-lc allows input and output to be the same
            // bytes exactly.
            unsafe { self.step(at, at, piece.len()) }
        }
        Ok(())
    }

    fn count(&mut self, more: usize) -> Result<(), Error> {
        let passed = self.passed.checked_add(more as u64).filter(|sum| *sum <= LONGEST).ok_or(Error::TooLong)?;
        self.passed = passed;
        Ok(())
    }

    /// One EVP call.
    ///
    /// # Safety
    /// `from` must be readable and `to` writable for `length` bytes, at most [`CALL`], and they must be the same or not
    /// overlap.
    unsafe fn step(&mut self, to: *mut u8, from: *const u8, length: usize) {
        let call = match self.direction {
            Direction::Seal => aws::EVP_EncryptUpdate,
            Direction::Open => aws::EVP_DecryptUpdate,
        };
        let length = c_int::try_from(length).expect("at most CALL bytes, which fits a C int");
        let mut written: c_int = 0;
        // SAFETY: `raw` is live and initialised; the caller answers for `to` and `from`; GCM writes exactly `length` bytes.
        let done = unsafe { call(self.raw.as_ptr(), to, &mut written, from, length) };
        assert!(done == 1 && written == length, "an initialised GCM context takes every piece up to LONGEST");
    }

    fn tag(self) -> [u8; TAG] {
        let mut tag = [0u8; TAG];
        let mut written: c_int = 0;
        // SAFETY: `raw` is live and initialised; GCM writes nothing to the output of the final call, for which `tag`
        // would have room anyway; the control call then writes 16 bytes, the length of `tag`.
        let done = unsafe {
            aws::EVP_EncryptFinal_ex(self.raw.as_ptr(), tag.as_mut_ptr(), &mut written) == 1
                && aws::EVP_CIPHER_CTX_ctrl(
                    self.raw.as_ptr(),
                    aws::EVP_CTRL_AEAD_GET_TAG,
                    TAG as c_int,
                    tag.as_mut_ptr().cast(),
                ) == 1
        };
        assert!(done, "a GCM context that took its pieces has a tag");
        tag
    }

    fn check(self, tag: &[u8; TAG]) -> Result<(), Error> {
        let mut expected = *tag;
        let mut nothing = [0u8; TAG];
        let mut written: c_int = 0;
        // SAFETY: `raw` is live and initialised; the control call reads the 16 bytes of `expected`; the final call of GCM
        // writes nothing, for which `nothing` would have room anyway. It compares in constant time.
        let matches = unsafe {
            aws::EVP_CIPHER_CTX_ctrl(
                self.raw.as_ptr(),
                aws::EVP_CTRL_AEAD_SET_TAG,
                TAG as c_int,
                expected.as_mut_ptr().cast(),
            ) == 1
                && aws::EVP_DecryptFinal_ex(self.raw.as_ptr(), nothing.as_mut_ptr(), &mut written) == 1
        };
        if matches { Ok(()) } else { Err(Error::Tag) }
    }
}
