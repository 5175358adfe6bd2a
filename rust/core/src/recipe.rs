//! Any byte range of a release.
