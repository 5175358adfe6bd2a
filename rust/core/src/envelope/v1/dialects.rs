//! What JMIX 1.0 leaves open and each library fills in its own way, as data (spec/jmix-1.0 12).
//!
//! One dialect is written and read so far: the one that follows the text of the specification. Another one is another
//! value here and a branch nowhere.

use crate::seal::keys::KDF_INFO;

/// The choices of one family of writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// As it stands in `extensions.ief.dialect` and in reports.
    pub name: &'static str,
    /// HKDF info string of the payload key.
    pub kdf_info: &'static str,
    /// The encrypted payload in the root of the envelope.
    pub payload: &'static str,
}

/// The dialect of the specification: payload hash over the ciphertext, tag in the manifest only, plain ustar inside.
pub const DEFAULT: Dialect = Dialect { name: "jmix-1.0", kdf_info: KDF_INFO, payload: "payload.encrypted" };
