//! Streaming AES-256-GCM and paired SHA-256, each behind a safe interface of a page.
