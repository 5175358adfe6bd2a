//! Ed25519 in its strict form, compact JWS, and the bytes that an assertion of JMIX 1.0 signs.
//!
//! A signature is accepted by every reader or by none (seg/1 4.2): no cofactor, S < L, A and R canonical and not of small
//! order. Keys to verify with come from the caller's trust, never from the message. Whom a key speaks for is left to the
//! caller too.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::base64::{decode_url, encode_url};
use crate::limits::{JWS, SIGNED_FIELDS};
use crate::{Code, Error, Result, json};

/// `typ` of `manifest.jws` (seg/1 4.1).
pub const TYP_MANIFEST: &str = "jmix-manifest+jws";

/// `typ` of a signed retrieval request (seg/1 8.4).
pub const TYP_RETRIEVAL: &str = "ief-retrieval+jws";

/// 2^255 - 19 in the little-endian order of an encoded point.
const FIELD: [u8; 32] = {
    let mut prime = [0xff; 32];
    prime[0] = 0xed;
    prime[31] = 0x7f;
    prime
};

/// A private Ed25519 key. It wipes itself; it has no `Debug` and no `Clone`.
pub struct Ed25519Key(SigningKey);

impl Ed25519Key {
    /// From its 32-byte seed (RFC 8032 5.1.5). The caller wipes the seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, to be written to a key file and nowhere else.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The raw public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// A detached signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// A JWS compact serialization (RFC 7515, RFC 8037) with exactly `alg`, `kid` and `typ` in its header, as seg/1 4.1.
    #[must_use]
    pub fn sign_jws(&self, payload: &[u8], typ: &str) -> String {
        // `Value` writes the one member that may need escapes.
        let header = format!(r#"{{"alg":"EdDSA","kid":"{}","typ":{}}}"#, kid(&self.public()), Value::from(typ));
        let mut jws = encode_url(header.as_bytes());
        jws.push('.');
        jws.push_str(&encode_url(payload));
        let signature = self.sign(jws.as_bytes());
        jws.push('.');
        jws.push_str(&encode_url(&signature));
        jws
    }
}

/// The key id of a raw public key: b64url of its SHA-256 (seg/1 4.1).
#[must_use]
pub fn kid(public: &[u8; 32]) -> String {
    encode_url(&Sha256::digest(public))
}

/// `SHA256:` and 64 lower-case hex digits of the SHA-256 of a raw public key, as an assertion of JMIX 1.0 names its key.
#[must_use]
pub fn fingerprint(public: &[u8; 32]) -> String {
    format!("SHA256:{}", hex::encode(Sha256::digest(public)))
}

/// Strict Ed25519. `part` names what is signed in `E_SIG_INVALID`.
pub fn verify(part: &str, public: &[u8; 32], message: &[u8], signature: &[u8]) -> Result<()> {
    let invalid = || Error::refused(Code::SigInvalid, part, "the signature is not one of this key over these bytes");
    let signature = Signature::from_slice(signature).map_err(|_| invalid())?;
    // dalek compares R as bytes, which refuses other encodings of it, but takes any encoding of A.
    if !is_canonical(public) {
        return Err(invalid());
    }
    let key = VerifyingKey::from_bytes(public).map_err(|_| invalid())?;
    key.verify_strict(message, &signature).map_err(|_| invalid())
}

/// y < 2^255 - 19, without the sign bit of x.
fn is_canonical(point: &[u8; 32]) -> bool {
    let mut y = *point;
    y[31] &= 0x7f;
    y.iter().rev().lt(FIELD.iter().rev())
}

/// A JWS that verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What is signed.
    pub payload: Vec<u8>,
    /// The raw public key of `trusted` that signed it.
    pub public: [u8; 32],
}

/// Verifies a compact JWS in the order of checks of seg/1 4.2, up to and with the signature. `part` names it in errors.
pub fn verify_jws(part: &str, jws: &[u8], typ: &str, trusted: &[[u8; 32]]) -> Result<Verified> {
    if jws.len() as u64 > JWS {
        return Err(Error::refused(Code::Limit, part, format!("a JWS of more than {JWS} bytes")));
    }
    let format = |why: &str| Error::refused(Code::SigFormat, part, why);
    let mut dots = jws.split(|byte| *byte == b'.');
    let (Some(header), Some(payload), Some(signature), None) = (dots.next(), dots.next(), dots.next(), dots.next())
    else {
        return Err(format("not the three parts of a compact JWS"));
    };
    let signed = &jws[..header.len() + 1 + payload.len()];
    let decoded = |piece| decode_url(piece).ok_or_else(|| format("a part is not canonical base64url"));
    let (header, payload, signature) = (decoded(header)?, decoded(payload)?, decoded(signature)?);
    let header = json::parse(part, &header).map_err(|error| match error {
        Error::Refused { why, .. } => format(&format!("protected header: {why}")),
        other => other,
    })?;

    let kid = check_header(part, &header, typ)?;
    let public = *trusted
        .iter()
        .find(|public| kid == <[u8; 32]>::from(Sha256::digest(public)))
        .ok_or_else(|| Error::refused(Code::SigKey, part, "no trusted key has the kid of this signature"))?;
    verify(part, &public, signed, &signature)?;
    Ok(Verified { payload, public })
}

/// Exactly `alg`, `kid` and `typ`, and what they must hold; gives the digest that `kid` names.
fn check_header(part: &str, header: &Value, typ: &str) -> Result<[u8; 32]> {
    let refuse = |why: &str| Error::refused(Code::SigHeader, part, why);
    let members = header.as_object().ok_or_else(|| refuse("the protected header is not an object"))?;
    let (Some(alg), Some(kid), Some(found)) = (members.get("alg"), members.get("kid"), members.get("typ")) else {
        return Err(refuse("the protected header lacks alg, kid or typ"));
    };
    if members.len() != 3 {
        return Err(refuse("the protected header has a member besides alg, kid and typ"));
    }
    if found != typ {
        return Err(refuse(&format!("typ is not {typ}")));
    }
    let kid = kid.as_str().and_then(|kid| decode_url(kid.as_bytes())).and_then(|kid| kid.try_into().ok());
    let kid = kid.ok_or_else(|| refuse("kid is not base64url of 32 bytes"))?;
    // RFC 8037 says EdDSA, RFC 9864 Ed25519.
    if alg != "EdDSA" && alg != "Ed25519" {
        return Err(Error::refused(Code::SigAlg, part, "alg is neither EdDSA nor Ed25519"));
    }
    Ok(kid)
}

/// What an assertion signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asserted {
    /// RFC 8785 of `{path: value}`; Ed25519 goes over these bytes.
    pub bytes: Vec<u8>,
    /// Every value is null: the signature covers a constant and proves nothing of this manifest.
    pub meaningless: bool,
}

/// The signed bytes of an assertion over `fields`, dot paths from the root of `manifest` (spec/jmix-1.0 9, seg/1 4.3).
/// Items of arrays are named by their index, as `receiver.0.id`; `manifest.id` is the `id` of the root. `E_SCHEMA` when a
/// path leads nowhere. A writer names no ancestor of the assertion itself, whose value changes once the signature is in it.
pub fn asserted(manifest: &Value, fields: &[&str]) -> Result<Asserted> {
    let refuse = |why: String| Error::refused(Code::Schema, "assertion", why);
    if fields.is_empty() || fields.len() > SIGNED_FIELDS {
        return Err(refuse(format!("signed_fields has {} paths; 1 to {SIGNED_FIELDS} can be signed", fields.len())));
    }
    let mut values = Map::new();
    for (index, field) in fields.iter().enumerate() {
        let value = resolve(manifest, field).ok_or_else(|| refuse(format!("signed_fields[{index}] leads nowhere")))?;
        values.insert((*field).to_owned(), value.clone());
    }
    let meaningless = values.values().all(Value::is_null);
    Ok(Asserted { bytes: json::canonical(&Value::Object(values))?, meaningless })
}

fn resolve<'a>(manifest: &'a Value, field: &str) -> Option<&'a Value> {
    let path = if field == "manifest.id" { "id" } else { field };
    path.split('.').try_fold(manifest, |value, step| match value {
        Value::Object(members) => members.get(step),
        // One spelling for each index, so that no item has two names.
        Value::Array(items) => items.get(step.parse::<usize>().ok().filter(|index| index.to_string() == step)?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Ed25519Key, FIELD, TYP_MANIFEST, asserted, fingerprint, kid, verify, verify_jws};
    use crate::base64::{decode, encode, encode_url};
    use crate::{Code, Result};

    fn code<T: std::fmt::Debug>(result: Result<T>) -> Code {
        result.expect_err("must be refused").code().expect("a refusal")
    }

    fn signed(key: &Ed25519Key, header: &str, payload: &[u8]) -> String {
        let input = format!("{}.{}", encode_url(header.as_bytes()), encode_url(payload));
        format!("{input}.{}", encode_url(&key.sign(input.as_bytes())))
    }

    #[test]
    fn a_jws_verifies_under_its_own_key_only() {
        let (key, other) = (Ed25519Key::from_seed(&[7; 32]), Ed25519Key::from_seed(&[8; 32]));
        let jws = key.sign_jws(b"{}", TYP_MANIFEST);
        let trusted = [other.public(), key.public()];
        let verified = verify_jws("manifest.jws", jws.as_bytes(), TYP_MANIFEST, &trusted).expect("its own key");
        assert_eq!((verified.payload.as_slice(), verified.public), (&b"{}"[..], key.public()));
        assert_eq!(code(verify_jws("x", jws.as_bytes(), TYP_MANIFEST, &trusted[..1])), Code::SigKey);
        assert_eq!(code(verify_jws("x", jws.as_bytes(), TYP_MANIFEST, &[])), Code::SigKey);
        assert_eq!(code(verify_jws("x", jws.as_bytes(), "ief-retrieval+jws", &trusted)), Code::SigHeader);
        let header = format!(r#"{{"typ":"{TYP_MANIFEST}","alg":"Ed25519","kid":"{}"}}"#, kid(&key.public()));
        assert!(verify_jws("x", signed(&key, &header, b"{}").as_bytes(), TYP_MANIFEST, &trusted).is_ok());
    }

    #[test]
    fn each_check_has_its_code_and_comes_in_order() {
        let key = Ed25519Key::from_seed(&[7; 32]);
        let id = kid(&key.public());
        let with =
            |header: String| code(verify_jws("x", signed(&key, &header, b"{}").as_bytes(), "t", &[key.public()]));
        for header in ["", "{", "{} {}", r#"{"alg":"EdDSA","alg":"EdDSA"}"#, "\u{feff}{}", r#"{"alg":-1}"#] {
            assert_eq!(with(header.to_owned()), Code::SigFormat, "{header}");
        }
        for header in [
            "[]".to_owned(),
            "{}".to_owned(),
            format!(r#"{{"alg":"EdDSA","kid":"{id}"}}"#),
            format!(r#"{{"alg":"EdDSA","kid":"{id}","typ":"t","crit":["b64"]}}"#),
            format!(r#"{{"alg":"none","kid":"{id}","typ":"t","jwk":{{}}}}"#),
            format!(r#"{{"alg":"none","kid":"{id}","typ":"T"}}"#),
            format!(r#"{{"alg":"none","kid":"{id}=","typ":"t"}}"#),
            format!(r#"{{"alg":"none","kid":"{}","typ":"t"}}"#, &id[..42]),
            r#"{"alg":"none","kid":1,"typ":"t"}"#.to_owned(),
        ] {
            assert_eq!(with(header.clone()), Code::SigHeader, "{header}");
        }
        for alg in [r#""none""#, r#""HS256""#, r#""eddsa""#, r#""Ed448""#, "null", r#"["EdDSA"]"#] {
            assert_eq!(with(format!(r#"{{"alg":{alg},"kid":"{id}","typ":"t"}}"#)), Code::SigAlg, "{alg}");
        }
        assert_eq!(with(format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"t"}}"#, kid(&[1; 32]))), Code::SigKey);

        let jws = key.sign_jws(b"{}", "t");
        for changed in [
            format!("{jws}\n"),
            format!("{jws}."),
            format!("{jws}="),
            format!(".{jws}"),
            jws.replacen('.', "=.", 1),
            jws.rsplit_once('.').expect("two dots").0.to_owned(),
            String::new(),
        ] {
            assert_eq!(code(verify_jws("x", changed.as_bytes(), "t", &[key.public()])), Code::SigFormat, "{changed}");
        }
        let (input, _) = jws.rsplit_once('.').expect("two dots");
        let cut = format!("{input}.{}", encode_url(&key.sign(input.as_bytes())[..63]));
        assert_eq!(code(verify_jws("x", cut.as_bytes(), "t", &[key.public()])), Code::SigInvalid);
        let long = vec![b'a'; 1_572_865];
        assert_eq!(code(verify_jws("x", &long, "t", &[key.public()])), Code::Limit);
    }

    #[test]
    fn a_changed_bit_anywhere_in_a_signature_or_message_is_refused() {
        let key = Ed25519Key::from_seed(&[7; 32]);
        let signature = key.sign(b"message");
        assert_eq!(verify("x", &key.public(), b"message", &signature), Ok(()));
        for bit in 0..512 {
            let mut other = signature;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(code(verify("x", &key.public(), b"message", &other)), Code::SigInvalid);
        }
        for message in [&b""[..], b"messag", b"messagf", b"message "] {
            assert_eq!(code(verify("x", &key.public(), message, &signature)), Code::SigInvalid);
        }
        for length in [0, 63] {
            assert_eq!(code(verify("x", &key.public(), b"message", &signature[..length])), Code::SigInvalid);
        }
    }

    #[test]
    fn weak_keys_and_other_encodings_of_a_point_sign_nothing() {
        // Identity as public key, R = identity, S = 0: plain verification accepts it for every message.
        let identity = std::array::from_fn::<u8, 32, _>(|at| u8::from(at == 0));
        let mut forged = [0; 64];
        forged[..32].copy_from_slice(&identity);
        assert_eq!(code(verify("x", &identity, b"anything", &forged)), Code::SigInvalid);
        let mut key = FIELD;
        for least in 0xed..=0xff {
            key[0] = least;
            for sign in [0x7f, 0xff] {
                key[31] = sign;
                assert!(!super::is_canonical(&key));
                assert_eq!(code(verify("x", &key, b"anything", &forged)), Code::SigInvalid);
            }
        }
        key[0] = 0xec;
        assert!(super::is_canonical(&key));
    }

    #[test]
    fn the_jws_of_jmix_rs_has_a_good_signature_and_a_header_that_is_refused() {
        // made with the header and payload of another library
        let key = Ed25519Key::from_seed(&[7; 32]);
        let payload = b"{\n  \"version\": \"1.0\"\n}";
        let jws = signed(&key, r#"{"alg":"EdDSA","typ":"JWS","crv":"Ed25519"}"#, payload);
        assert_eq!(
            jws,
            "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXUyIsImNydiI6IkVkMjU1MTkifQ.ewogICJ2ZXJzaW9uIjogIjEuMCIKfQ.\
             3igvdM8WJyc4JfHVsZMiNkwi6gh1omiUVDPj3YdvDOwqnz1oRdG__SaMK2NiJkUdnK1rhTwH-IwwlKjc_i1HDQ"
        );
        assert_eq!(code(verify_jws("x", jws.as_bytes(), TYP_MANIFEST, &[key.public()])), Code::SigHeader);
    }

    #[test]
    fn the_assertion_of_jmix_interop_2_6_has_its_bytes_and_signature() {
        let key = Ed25519Key::from_seed(&[7; 32]);
        assert_eq!(encode(&key.public()), "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=");
        let expected = "SHA256:fe812c12f3ab4ce6ac5db69ac352f906cb1b11ef43fb33e252ef7ff552263889";
        assert_eq!(fingerprint(&key.public()), expected);
        let manifest = json!({
            "id": "6f57f5fa-1cd1-45be-a5c3-fb209be1e0ec",
            "timestamp": "2025-05-24T06:14:00Z",
            "sender": {"id": "org:a", "name": "Clinic é A", "assertion": {}},
        });
        let asserted = asserted(&manifest, &["sender.id", "sender.name", "manifest.id", "timestamp"]).expect("there");
        let text = r#"{"manifest.id":"6f57f5fa-1cd1-45be-a5c3-fb209be1e0ec","sender.id":"org:a","sender.name":"Clinic é A","timestamp":"2025-05-24T06:14:00Z"}"#;
        assert_eq!(String::from_utf8_lossy(&asserted.bytes), text);
        assert!(!asserted.meaningless);
        let signature = "31Nqm5PUU9hALx5JNni+uACwesiK6PtR/Kp/DzOUbEkJaWA0/5QUJbw9opGb8SsvyZLWKI6E3SstNdyZekMgBQ==";
        assert_eq!(encode(&key.sign(&asserted.bytes)), signature);
        let signature = decode::<64>(signature).expect("base64");
        assert_eq!(verify("x", &key.public(), &asserted.bytes, &signature), Ok(()));
    }

    #[test]
    fn an_assertion_signs_only_what_is_there() {
        let manifest = json!({
            "id": "a", "requester": null, "receiver": [{"id": "b"}, {"id": null}],
            "sender": {"id": "c", "assertion": {"signature": ""}}, "security": {"encryption": {"iv": "d"}},
        });
        let bytes = |fields: &[&str]| asserted(&manifest, fields).map(|asserted| String::from_utf8(asserted.bytes));
        assert_eq!(
            bytes(&["security.encryption", "receiver.0.id", "id"]).expect("there").as_deref(),
            Ok(r#"{"id":"a","receiver.0.id":"b","security.encryption":{"iv":"d"}}"#)
        );
        assert!(bytes(&["receiver"]).is_ok());
        for field in [
            "",
            "name",
            "id.x",
            "manifest",
            "manifest.id.x",
            "receiver.00.id",
            "receiver.+0.id",
            "receiver.2",
            "sender.id.",
            ".id",
        ] {
            assert_eq!(code(bytes(&["id", field])), Code::Schema, "{field}");
        }
        assert_eq!(code(bytes(&[])), Code::Schema);
        assert_eq!(code(bytes(&["id"; 65])), Code::Schema);
        assert_eq!(asserted(&manifest, &["requester", "receiver.1.id"]).map(|asserted| asserted.meaningless), Ok(true));
        assert_eq!(asserted(&manifest, &["requester", "id"]).map(|asserted| asserted.meaningless), Ok(false));
    }
}
