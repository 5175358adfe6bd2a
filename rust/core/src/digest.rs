//! Hashing as bytes pass.
