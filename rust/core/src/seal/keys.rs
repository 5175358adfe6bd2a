//! X25519 (RFC 7748) and the payload key of JMIX 1.0 (spec/jmix-1.0 4): HKDF-SHA256 (RFC 5869) without a salt over the
//! shared secret. Randomness comes from the caller.

use hkdf::Hkdf;
use sha2::{Sha256, Sha512};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::{Code, Error, Result};

/// The HKDF info of the default dialect, and of jmix-php.
pub const KDF_INFO: &str = "JMIX-payload-encryption";

/// The HKDF info of jmix-rs.
pub const KDF_INFO_RS: &str = "JMIX-AES256-GCM";

/// The HKDF info of jmix-js.
pub const KDF_INFO_JS: &str = "JMIX-Payload-Encryption";

/// A secret of 32 bytes that wipes itself.
pub type Secret = Zeroizing<[u8; 32]>;

/// A private X25519 key. It wipes itself; it has no `Debug` and no `Clone`.
pub struct X25519Key(StaticSecret);

impl X25519Key {
    /// From 32 raw bytes, which are clamped when they are used. The caller wipes them.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(StaticSecret::from(*secret))
    }

    /// The raw bytes, to be written to a key file and nowhere else.
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The raw public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// The secret shared with the holder of `public`. `E_WRAP` when it would be all zeros: then `public` is a point of small
    /// order, and anyone knows the secret (seg/1 5.2, RFC 7748 6.1).
    pub fn agree(&self, public: &[u8; 32]) -> Result<Secret> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*public));
        if !shared.was_contributory() {
            return Err(Error::refused(Code::Wrap, "X25519 key", "a public key of small order gives no secret"));
        }
        Ok(Zeroizing::new(shared.to_bytes()))
    }
}

/// The AES-256 key of a payload from the shared secret and one of the `KDF_INFO` labels.
#[must_use]
pub fn payload_key(shared: &Secret, info: &str) -> Secret {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, shared.as_slice())
        .expand(info.as_bytes(), key.as_mut_slice())
        .expect("HKDF-SHA256 gives up to 8,160 bytes");
    key
}

/// 32 secret bytes for `purpose` from 64 random ones and what makes this run unlike any other, so that a cloned machine
/// which repeats its random numbers does not repeat a key (seg/1 9.4).
#[must_use]
pub fn hedged(random: &[u8; 64], purpose: &str, context: &[u8]) -> Secret {
    let mut secret = Secret::default();
    Hkdf::<Sha512>::new(None, random)
        .expand_multi_info(&[purpose.as_bytes(), &[0], context], secret.as_mut_slice())
        .expect("HKDF-SHA512 gives up to 16,320 bytes");
    secret
}

#[cfg(test)]
mod tests {
    use super::{KDF_INFO, KDF_INFO_JS, KDF_INFO_RS, X25519Key, payload_key};
    use crate::Code;
    use crate::base64::encode;
    use crate::seal::gcm::Sealer;

    fn counting(first: u8) -> X25519Key {
        X25519Key::from_secret(&std::array::from_fn(|at| first + at as u8))
    }

    #[test]
    fn the_vectors_of_jmix_interop_2_2_are_met() {
        let (recipient, ephemeral) = (counting(0x01), counting(0x21));
        assert_eq!(encode(&recipient.public()), "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=");
        assert_eq!(encode(&ephemeral.public()), "WGmv9FBUlzLLqu1eXfmzCm2jHLDldCutWtShp2jxpns=");
        let shared = ephemeral.agree(&recipient.public()).expect("two good keys");
        assert_eq!(shared, recipient.agree(&ephemeral.public()).expect("two good keys"));
        assert_eq!(hex::encode(*shared), "a84dc7c3c8f058b1b2dc4cd1e9b5dc0a7987f88b6a9564cde3391fc421159e77");
        for (info, key, sealed, tag) in [
            (
                KDF_INFO_RS,
                "7449398a2ea00f1e7501e95050322e49dd4d851aa19c509df0aa8bb1952f8b35",
                "042dab5105c8ba7dcc2b801f447c3a6aa2",
                "EA4nTKdGcga22nKvD/q/PQ==",
            ),
            (
                KDF_INFO_JS,
                "0ab111d63602c40b71f7c66b95538772dd1246e60bd9b90faa59f2e387f4f0ee",
                "54a140a72b49d057b5ed0869def0b4414b",
                "ThMkFIfc2ElkrWjnvpOWVA==",
            ),
            (
                KDF_INFO,
                "edb1a110f2d9ae240332353643baebf3cd6031ccb59ccd224aae9f040ae12f28",
                "309b1b61d4eb4f6ed3af24ac689135e5ee",
                "7EIov8gqnwBmkBCFDh/mfg==",
            ),
        ] {
            let derived = payload_key(&shared, info);
            assert_eq!(hex::encode(*derived), key, "{info}");
            let mut data = [0; 17];
            let mut sealer = Sealer::new(&derived, &std::array::from_fn(|at| at as u8));
            sealer.update(b"JMIX test vector\n", &mut data).expect("short");
            assert_eq!((hex::encode(data).as_str(), encode(&sealer.finish()).as_str()), (sealed, tag), "{info}");
        }
    }

    #[test]
    fn a_point_of_small_order_is_refused() {
        for point in [[0; 32], std::array::from_fn(|at| u8::from(at == 0))] {
            assert_eq!(counting(1).agree(&point).expect_err("small order").code(), Some(Code::Wrap));
        }
    }
}
