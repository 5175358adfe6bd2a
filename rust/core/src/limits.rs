//! Every budget on untrusted input, each with its reason (security-tests 2, seg/1 14).
