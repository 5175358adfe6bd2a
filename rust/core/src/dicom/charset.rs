//! Bytes to text by SpecificCharacterSet (PS3.3 C.12.1.1.2, PS3.5 6.1): single-byte sets, ISO 2022 code extensions, UTF-8,
//! GB18030 and GBK. What cannot be decoded becomes U+FFFD; the stored bytes are never changed.

use super::tags::Kind;
use encoding_rs::{
    EUC_JP, EUC_KR, Encoding, GB18030, GBK, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5, ISO_8859_6, ISO_8859_7,
    ISO_8859_8, ISO_8859_15, SHIFT_JIS, UTF_8, WINDOWS_874, WINDOWS_1254,
};

const ESCAPE: u8 = 0x1B;

/// One coded character set.
#[derive(Clone, Copy)]
enum Set {
    /// The default repertoire. Bytes above 7F stand there against the rule; they are nearly always Latin-1.
    Latin1,
    /// Any that a table decodes without state.
    Table(&'static Encoding),
    /// JIS X 0208 and JIS X 0212: two bytes below 80, which the table wants above, after a shift for the latter.
    Jis { supplementary: bool },
    /// A term that is not defined.
    Unknown,
}

/// The sets of one data set; the first is in use where no escape sequence says otherwise.
#[derive(Clone, Copy)]
pub struct CharacterSet {
    first: Set,
    extensible: bool,
}

impl Default for CharacterSet {
    fn default() -> Self {
        Self { first: Set::Latin1, extensible: true }
    }
}

impl CharacterSet {
    /// From the value of SpecificCharacterSet, terms separated by backslashes.
    #[must_use]
    pub fn new(value: &str) -> Self {
        let term = value.split('\\').next().unwrap_or_default().trim().replace(['_', '-'], " ");
        let (first, extensible) = match term.trim_start_matches("ISO ").trim_start_matches("2022 ") {
            "" | "IR 6" | "IR 100" => (Set::Latin1, true),
            "IR 13" => (Set::Table(SHIFT_JIS), true),
            "IR 101" => (Set::Table(ISO_8859_2), true),
            "IR 109" => (Set::Table(ISO_8859_3), true),
            "IR 110" => (Set::Table(ISO_8859_4), true),
            "IR 126" => (Set::Table(ISO_8859_7), true),
            "IR 127" => (Set::Table(ISO_8859_6), true),
            "IR 138" => (Set::Table(ISO_8859_8), true),
            "IR 144" => (Set::Table(ISO_8859_5), true),
            "IR 148" => (Set::Table(WINDOWS_1254), true),
            "IR 166" => (Set::Table(WINDOWS_874), true),
            "IR 203" => (Set::Table(ISO_8859_15), true),
            "IR 149" => (Set::Table(EUC_KR), true),
            "IR 58" | "58" => (Set::Table(GBK), true),
            "IR 87" => (Set::Jis { supplementary: false }, true),
            "IR 159" => (Set::Jis { supplementary: true }, true),
            "IR 192" => (Set::Table(UTF_8), false),
            "GB18030" => (Set::Table(GB18030), false),
            "GBK" => (Set::Table(GBK), false),
            _ => (Set::Unknown, true),
        };
        Self { first, extensible }
    }

    /// The text of a value that was trimmed; `None` when it is empty.
    #[must_use]
    pub fn text(&self, bytes: Vec<u8>, kind: Kind) -> Option<String> {
        if bytes.is_empty() {
            return None;
        }
        let plain = bytes.is_ascii() && !bytes.contains(&ESCAPE);
        if plain {
            return String::from_utf8(bytes).ok();
        }
        let text = match kind {
            Kind::Text | Kind::Name if self.extensible && bytes.contains(&ESCAPE) => self.extended(&bytes, kind),
            Kind::Text | Kind::Name => decode(self.first, &bytes),
            Kind::Uid | Kind::Plain => decode(Set::Latin1, &bytes),
        };
        // An escape sequence at an end may have hidden padding from `trim`.
        let text = text.trim_matches([' ', '\0']);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// PS3.5 6.1.2.5: escape sequences choose the set of the bytes behind them, delimiters go back to the first one.
    fn extended(&self, bytes: &[u8], kind: Kind) -> String {
        let mut text = String::with_capacity(bytes.len());
        let mut set = self.first;
        let mut from = 0;
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] == ESCAPE {
                text.push_str(&decode(set, &bytes[from..at]));
                let (next, length) = escape(&bytes[at..]).unwrap_or((set, 1));
                if length == 1 {
                    text.push(char::REPLACEMENT_CHARACTER);
                }
                set = next;
                at += length;
                from = at;
            } else if !matches!(set, Set::Jis { .. }) && is_delimiter(bytes[at], kind) {
                text.push_str(&decode(set, &bytes[from..at]));
                set = self.first;
                from = at;
                at += 1;
            } else {
                at += 1;
            }
        }
        text.push_str(&decode(set, &bytes[from..]));
        text
    }
}

/// A value without the padding that is no part of it: spaces and NULs at both ends (PS3.5 6.2).
#[must_use]
pub fn trim(bytes: &[u8]) -> &[u8] {
    let padding = |byte: &u8| matches!(byte, 0 | b' ');
    let start = bytes.iter().position(|byte| !padding(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !padding(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

fn is_delimiter(byte: u8, kind: Kind) -> bool {
    matches!(byte, b'\\' | b'\t' | b'\n' | 0x0C | b'\r') || (kind == Kind::Name && matches!(byte, b'^' | b'='))
}

/// The set that an escape sequence at the start of `bytes` chooses, and its length (PS3.3 tables C.12-3 and C.12-4).
fn escape(bytes: &[u8]) -> Option<(Set, usize)> {
    let table = |encoding| Some((Set::Table(encoding), 3));
    match bytes.get(1..)? {
        [b'(', b'B', ..] | [b'-', b'A', ..] => Some((Set::Latin1, 3)),
        [b'(', b'J', ..] | [b')', b'I', ..] => table(SHIFT_JIS),
        [b'-', b'B', ..] => table(ISO_8859_2),
        [b'-', b'C', ..] => table(ISO_8859_3),
        [b'-', b'D', ..] => table(ISO_8859_4),
        [b'-', b'F', ..] => table(ISO_8859_7),
        [b'-', b'G', ..] => table(ISO_8859_6),
        [b'-', b'H', ..] => table(ISO_8859_8),
        [b'-', b'L', ..] => table(ISO_8859_5),
        [b'-', b'M', ..] => table(WINDOWS_1254),
        [b'-', b'T', ..] => table(WINDOWS_874),
        [b'-', b'b', ..] => table(ISO_8859_15),
        [b'$', b'B', ..] => Some((Set::Jis { supplementary: false }, 3)),
        [b'$', b'(', b'D', ..] => Some((Set::Jis { supplementary: true }, 4)),
        [b'$', b')', b'C', ..] => Some((Set::Table(EUC_KR), 4)),
        [b'$', b')', b'A', ..] => Some((Set::Table(GBK), 4)),
        _ => None,
    }
}

fn decode(set: Set, bytes: &[u8]) -> String {
    match set {
        Set::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        Set::Unknown => bytes
            .iter()
            .map(|byte| if byte.is_ascii() { char::from(*byte) } else { char::REPLACEMENT_CHARACTER })
            .collect(),
        Set::Table(encoding) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
        Set::Jis { supplementary } => {
            let mut shifted = Vec::with_capacity(bytes.len() * 3 / 2);
            for pair in bytes.chunks(2) {
                if supplementary {
                    shifted.push(0x8F);
                }
                shifted.extend(pair.iter().map(|byte| byte | 0x80));
            }
            EUC_JP.decode_without_bom_handling(&shifted).0.into_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CharacterSet, Kind};

    fn name(set: &str, bytes: &[u8]) -> String {
        CharacterSet::new(set).text(bytes.to_vec(), Kind::Name).unwrap_or_default()
    }

    // The examples of PS3.5 annexes H, I and J.
    #[test]
    fn the_names_of_the_standard_are_read() {
        let japanese = b"Yamada^Tarou=\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B=\x1B$B$d$^$@\x1B(B^\x1B$B$?$m$&\x1B(B";
        assert_eq!(name("\\ISO 2022 IR 87", japanese), "Yamada^Tarou=山田^太郎=やまだ^たろう");
        let katakana = b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1B$B;3ED\x1B(J^\x1B$BB@O:\x1B(J";
        assert_eq!(name("ISO 2022 IR 13\\ISO 2022 IR 87", katakana), "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎");
        let korean = b"Hong^Gildong=\x1B$)C\xFB\xF3^\x1B$)C\xD1\xCE\xD4\xD7=\x1B$)C\xC8\xAB^\x1B$)C\xB1\xE6\xB5\xBF";
        assert_eq!(name("\\ISO 2022 IR 149", korean), "Hong^Gildong=洪^吉洞=홍^길동");
        assert_eq!(name("GB18030", b"Wang^XiaoDong=\xCD\xF5^\xD0\xA1\xB6\xAB="), "Wang^XiaoDong=王^小东=");
        assert_eq!(name("ISO_IR 192", "Wang^XiaoDong=王^小東".as_bytes()), "Wang^XiaoDong=王^小東");
        assert_eq!(name("ISO_IR 144", b"\xBB\xEE\xDA\xE6"), "Люкц");
    }

    #[test]
    fn what_cannot_be_decoded_is_replaced() {
        assert_eq!(name("ISO_IR 192", b"a\xFFb"), "a\u{FFFD}b");
        assert_eq!(name("ISO_IR 999", b"a\xE4b"), "a\u{FFFD}b");
        assert_eq!(name("", b"a\x1B%b"), "a\u{FFFD}%b");
        assert_eq!(name("", b"a\xE4b"), "aäb");
        let escapes = b"\x1B$B".repeat(300_000);
        assert_eq!(name("\\ISO 2022 IR 87", &escapes), "");
        let cut = name("\\ISO 2022 IR 87", b"\x1B$B;");
        assert!(cut.ends_with('\u{FFFD}'), "{cut}");
    }

    #[test]
    fn padding_behind_an_escape_sequence_is_no_text() {
        let set = CharacterSet::new("\\ISO 2022 IR 87");
        assert_eq!(set.text(b"A \x1b(B".to_vec(), Kind::Text).as_deref(), Some("A"));
        assert_eq!(set.text(b"\x1b(B".to_vec(), Kind::Text), None);
    }
}
