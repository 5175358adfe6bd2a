//! A JWS that verifies is the one that its key makes of its payload; nothing else verifies, however little it differs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mdg_core::sign::{self, Ed25519Key};

const TYP: &str = "fuzz+jws";

fuzz_target!(|data: &[u8]| {
    let key = Ed25519Key::from_seed(&[7; 32]);
    let trusted = [key.public()];
    if let Ok(verified) = sign::verify_jws("fuzz", data, TYP, &trusted) {
        assert_eq!(key.sign_jws(&verified.payload, TYP).as_bytes(), data);
    }

    // Bytes 0 and 1 choose where and how a good signature of the rest is bent.
    let [at, bend, payload @ ..] = data else { return };
    let mut jws = key.sign_jws(payload, TYP).into_bytes();
    assert_eq!(sign::verify_jws("fuzz", &jws, TYP, &trusted).expect("a good signature verifies").payload, payload);
    let at = jws.len() * usize::from(*at) / 256;
    if *bend != 0 {
        jws[at] ^= *bend;
        assert!(sign::verify_jws("fuzz", &jws, TYP, &trusted).is_err());
    }
});
