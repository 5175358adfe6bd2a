//! Ed25519, JWS and assertions.
