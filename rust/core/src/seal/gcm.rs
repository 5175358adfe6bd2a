//! The cipher of JMIX 1.0: the whole payload is one AES-256-GCM message, sealed or opened as it passes.
//!
//! [`mdg_crypto::gcm`] does the work; here its refusals become those of this crate. A message ends with its tag, so what
//! [`Opener::update`] gives is unproven until [`Opener::finish`] has said yes.

use mdg_crypto::gcm;
pub use mdg_crypto::gcm::TAG;

use crate::error::{Code, Error, Result};

/// Encrypts one message.
pub struct Sealer(gcm::Sealer);

impl Sealer {
    /// Begins a message. A (`key`, `iv`) pair must never seal two different ones.
    #[must_use]
    pub fn new(key: &[u8; 32], iv: &[u8; 12]) -> Self {
        Self(gcm::Sealer::new(key, iv))
    }

    /// Encrypts the next piece into `sealed`, which has its length. `Misuse` beyond the longest message (64 GiB).
    pub fn update(&mut self, plain: &[u8], sealed: &mut [u8]) -> Result<()> {
        self.0.update(plain, sealed).map_err(|_| Error::misuse("one AES-GCM message cannot carry this study"))
    }

    /// The tag over everything that was given.
    #[must_use]
    pub fn finish(self) -> [u8; TAG] {
        self.0.finish()
    }
}

/// Decrypts one message.
pub struct Opener(gcm::Opener);

impl Opener {
    /// Begins a message.
    #[must_use]
    pub fn new(key: &[u8; 32], iv: &[u8; 12]) -> Self {
        Self(gcm::Opener::new(key, iv))
    }

    /// Decrypts the next piece into `plain`, which has its length. `E_LIMIT` beyond the longest message; `part` names it.
    pub fn update(&mut self, part: &str, sealed: &[u8], plain: &mut [u8]) -> Result<()> {
        let too_long = |_| Error::refused(Code::Limit, part, "longer than one AES-GCM message");
        self.0.update(sealed, plain).map_err(too_long)
    }

    /// Whether `tag` is that of the message, in constant time. If it is not, all of its plaintext is to be thrown away.
    #[must_use]
    pub fn finish(self, tag: &[u8; TAG]) -> bool {
        self.0.finish(tag).is_ok()
    }
}
