//! ZIP and tar.
