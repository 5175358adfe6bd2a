//! Keys and ciphers.
