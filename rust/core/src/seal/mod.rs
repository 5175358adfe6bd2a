//! Keys and ciphers: from a recipient's public key to sealed bytes.
//!
//! [`keys`] agrees on a secret and derives the payload key of JMIX 1.0. The cipher itself, one AES-256-GCM message that
//! passes in pieces, is [`mdg_crypto::gcm`]; the envelope feeds it.

pub mod keys;
