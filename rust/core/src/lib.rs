//! The formats of a Medical Data Gateway as functions over bytes.
//!
//! Nothing here opens a file or a socket, starts a thread, reads a clock, or knows Python. Callers hand in bytes (or
//! something that can be read at an offset, [`ReadAt`]) and take bytes out; every test is a byte string. Work that may run
//! on several threads is described by a trait ([`envelope::Workers`], [`envelope::v1::hashing::Hashing`]), and the caller
//! brings the threads.
//!
//! From the ground up: [`error`], [`limits`] and [`bytes`]; [`base64`] and [`json`] (the strict rules of seg/1 3.1) and
//! [`digest`]; [`dicom`] (headers only, pixel data is passed on and never parsed), [`seal`] (keys and ciphers), [`sign`]
//! (Ed25519, JWS) and [`archive`] (ZIP and tar, strict both ways); on top [`envelope`] (JMIX) and [`recipe`] (any byte
//! range of a release).
#![forbid(unsafe_code)]

pub mod archive;
pub mod base64;
pub mod bytes;
pub mod dicom;
pub mod digest;
pub mod envelope;
pub mod error;
pub mod json;
pub mod limits;
pub mod recipe;
pub mod seal;
pub mod sign;

pub use bytes::{ReadAt, WriteAt};
pub use error::{Code, Error, Result};
