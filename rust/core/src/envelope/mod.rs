//! JMIX envelopes.
