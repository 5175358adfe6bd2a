//! Base64 in its canonical form only (RFC 4648; seg/1 "Notation"): `b64` with padding, `b64url` without. Other padding,
//! spare bits that are not zero, white space and foreign characters are not base64 here.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Standard alphabet, padded.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Exactly `N` bytes from standard base64, or `None`.
#[must_use]
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// URL alphabet, without padding.
#[must_use]
pub fn encode_url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Bytes from base64url, or `None`.
#[must_use]
pub fn decode_url(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::{decode, decode_url, encode, encode_url};

    #[test]
    fn only_the_canonical_form_is_read() {
        assert_eq!(encode(&[0xfb, 0xff]), "+/8=");
        assert_eq!(encode_url(&[0xfb, 0xff]), "-_8");
        assert_eq!(decode::<2>("+/8="), Some([0xfb, 0xff]));
        assert_eq!(decode_url(b"-_8"), Some(vec![0xfb, 0xff]));
        assert_eq!(decode_url(b""), Some(vec![]));
        for text in ["+/8", "+/9=", "-_8=", "+/8= ", " +/8=", "+/8=\n", "+/\n8=", "+/8==", "+/8=AAAA"] {
            assert_eq!(decode::<2>(text), None, "{text:?}");
        }
        assert_eq!(decode::<3>("+/8="), None, "another length");
        for text in ["-_8=", "-_9", "+/8", "-_8 ", "-_8\n", "-", "-_8AA"] {
            assert_eq!(decode_url(text.as_bytes()), None, "{text:?}");
        }
    }
}
