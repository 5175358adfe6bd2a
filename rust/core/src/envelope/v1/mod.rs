//! JMIX 1.0, default dialect (spec/jmix-1.0): [`pack`] makes an envelope, [`open`] verifies and opens one.
//!
//! [`dialects`] holds what the specification leaves open; [`container`] finds the documents and the payload in a ZIP or a
//! folder; the payload is written and read by [`payload_writer`] and [`payload_reader`], and hashed by [`hashing`].

pub mod container;
pub mod dialects;
pub mod hashing;
mod headers;
mod manifest;
pub mod open;
pub mod pack;
pub mod payload_reader;
pub mod payload_writer;

#[cfg(test)]
mod tests;
