//! Streaming AES-256-GCM and paired SHA-256, each behind a safe interface of a page.
//!
//! No safe crate offers either at speed: one GCM message that passes in pieces ([`gcm`], over aws-lc), and SHA-256 of two
//! independent messages interleaved on one core ([`sha2x`], with SHA-NI). This crate is the only place besides the buffer
//! pool of the Python module where `unsafe` stands; each block says why it is sound, and RustCrypto is the oracle in the
//! tests.

pub mod gcm;
pub mod sha2x;
