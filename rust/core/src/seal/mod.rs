//! Keys and ciphers: from a recipient's public key to sealed bytes. Every cipher that an envelope uses is here.
//!
//! [`keys`] agrees on a secret and derives the payload key; [`gcm`] is the cipher of JMIX 1.0, one AES-256-GCM message.

pub mod gcm;
pub mod keys;
