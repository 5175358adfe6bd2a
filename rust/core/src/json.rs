//! The strict JSON of seg/1 3.1, and its canonical bytes (RFC 8785).
//!
//! Two readers must never see two documents in the same bytes, so what RFC 8259 leaves open is refused: a byte order mark,
//! duplicate keys, lone surrogates, numbers that are not plain integers 0..2^53-1, anything after the one value. Depth,
//! strings and the number of values have budgets. Schemas are left to the caller.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::limits::{INDEX_NODES, JSON_DEPTH, JSON_NODES, JSON_STRING};
use crate::{Code, Error, Result};

/// The largest integer that every JSON reader holds exactly.
const LARGEST: u64 = (1 << 53) - 1;

/// One JSON value; members keep their order. `part` names the document in the error, which is `E_JSON` with the byte.
pub fn parse(part: &str, data: &[u8]) -> Result<Value> {
    read(part, data, Code::Json, JSON_NODES)
}

/// The same for a document inside a payload: `E_INDEX_JSON`, and room for a list of all its files.
pub fn parse_index(part: &str, data: &[u8]) -> Result<Value> {
    read(part, data, Code::IndexJson, INDEX_NODES)
}

/// RFC 8785 bytes of a value that [`parse`] gave or that holds nothing which `parse` would refuse.
pub fn canonical(value: &Value) -> Result<Vec<u8>> {
    serde_json_canonicalizer::to_vec(value).map_err(|error| Error::misuse(format!("no canonical JSON: {error}")))
}

fn read(part: &str, data: &[u8], code: Code, nodes: u32) -> Result<Value> {
    let mut left = nodes;
    let mut reader = serde_json::Deserializer::from_slice(data);
    let value = OneValue { depth: 0, left: &mut left }.deserialize(&mut reader);
    value.and_then(|value| reader.end().map(|()| value)).map_err(|error| {
        let at = offset(data, error.line(), error.column());
        // The message of serde_json ends with its own idea of the place.
        let text = error.to_string();
        let why = text.split(" at line ").next().unwrap_or_default();
        Error::refused_at(code, part, at, why)
    })
}

/// The byte of a line and column as serde_json counts them: both from 1, columns in bytes.
fn offset(data: &[u8], line: usize, column: usize) -> u64 {
    let before = data.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1));
    let start: usize = before.map(<[u8]>::len).sum();
    (start + column.saturating_sub(1)) as u64
}

/// Builds one value and takes its nodes from the budget.
struct OneValue<'a> {
    /// Containers around this value.
    depth: usize,
    left: &'a mut u32,
}

impl OneValue<'_> {
    fn inside<E: de::Error>(&mut self) -> std::result::Result<OneValue<'_>, E> {
        if self.depth == JSON_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {JSON_DEPTH}")));
        }
        Ok(OneValue { depth: self.depth + 1, left: self.left })
    }

    fn reborrow(&mut self) -> OneValue<'_> {
        OneValue { depth: self.depth, left: self.left }
    }
}

fn short<E: de::Error>(text: &str) -> std::result::Result<(), E> {
    if text.len() > JSON_STRING {
        return Err(E::custom(format_args!("a string of more than {JSON_STRING} bytes")));
    }
    Ok(())
}

impl<'de> DeserializeSeed<'de> for OneValue<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        match self.left.checked_sub(1) {
            Some(left) => *self.left = left,
            None => return Err(de::Error::custom("more values than a document may hold")),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneValue<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value with integers 0..2^53-1 only")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> std::result::Result<Value, E> {
        if value > LARGEST {
            return Err(E::custom(format_args!("an integer above {LARGEST}")));
        }
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> std::result::Result<Value, E> {
        Err(E::custom("a negative number"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> std::result::Result<Value, E> {
        Err(E::custom("a number with sign, fraction or exponent, or too large"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Value, E> {
        short(text)?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> std::result::Result<Value, A::Error> {
        let mut inside = self.inside()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inside.reborrow())? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> std::result::Result<Value, A::Error> {
        let mut inside = self.inside()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            short(&key)?;
            if object.contains_key(&key) {
                return Err(de::Error::custom("a key that the object has already"));
            }
            let value = members.next_value_seed(inside.reborrow())?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::{canonical, parse, parse_index};
    use crate::{Code, Error};

    fn refusal(data: &[u8]) -> (Option<u64>, String) {
        let error = parse("manifest.json", data).expect_err(&String::from_utf8_lossy(data));
        assert_eq!(error.code(), Some(Code::Json));
        let Error::Refused { at, why, .. } = error else { unreachable!("only a refusal has a code") };
        (at, why)
    }

    #[test]
    fn plain_documents_are_read_and_keep_their_order() {
        let text = br#" {"b":[0,9007199254740991,null,true,"\u00e9\ud83d\ude00"],"a":{}} "#;
        let value = parse("x", text).expect("valid");
        assert_eq!(value.to_string(), r#"{"b":[0,9007199254740991,null,true,"é😀"],"a":{}}"#);
        assert_eq!(
            canonical(&value).expect("valid"),
            r#"{"a":{},"b":[0,9007199254740991,null,true,"é😀"]}"#.as_bytes()
        );
    }

    #[test]
    fn each_rule_refuses_with_the_byte() {
        assert_eq!(refusal(b"\xef\xbb\xbf{}").0, Some(0));
        assert_eq!(refusal(b"{\"a\":1,\n\"a\":1}").1, "a key that the object has already");
        assert_eq!(refusal(br#"{"a":1,"\u0061":1}"#).1, "a key that the object has already");
        for lone in [&br#""\ud800""#[..], br#""\udc00""#, br#""\ud800\u0041""#, br#"{"\udfff":1}"#] {
            refusal(lone);
        }
        for number in
            ["-1", "-0", "1.0", "1e2", "1E+2", "9007199254740992", "18446744073709551616", "01", "+1", "1e999"]
        {
            refusal(number.as_bytes());
        }
        assert_eq!(refusal(b"[1,\n 2.5]").0, Some(7));
        assert_eq!(refusal(b"{} {}").0, Some(3));
        assert_eq!(refusal(b"{}\0").0, Some(2));
        for text in
            ["", " ", "NaN", "Infinity", "'a'", "[1,]", "{\"a\":1,}", "{a:1}", "// c\n1", "\"\t\"", "nul", "\"a"]
        {
            refusal(text.as_bytes());
        }
        refusal(b"\"\xff\"");
        refusal(b"\"\xed\xa0\x80\"");
        refusal(b"\"\xc0\x80\"");
    }

    #[test]
    fn depth_strings_and_number_of_values_have_seams() {
        let nested = |n: usize| [b"[".repeat(n), b"]".repeat(n)].concat();
        assert!(parse("x", &nested(32)).is_ok());
        refusal(&nested(33));
        refusal(&nested(100_000));
        let string = |n: usize| format!("\"{}\"", "a".repeat(n)).into_bytes();
        assert!(parse("x", &string(65_536)).is_ok());
        refusal(&string(65_537));
        refusal(format!("{{\"{}\":1}}", "a".repeat(65_537)).as_bytes());
        let zeros = |n: usize| format!("[{}]", vec!["0"; n].join(",")).into_bytes();
        assert!(parse("x", &zeros(49_999)).is_ok());
        refusal(&zeros(50_000));
        assert!(parse_index("x", &zeros(50_000)).is_ok());
        assert_eq!(parse_index("x", b"{").map_err(|error| error.code()), Err(Some(Code::IndexJson)));
    }

    #[test]
    fn no_message_repeats_the_input() {
        for text in [r#"{"SECRET":-1}"#, r#"{"SECRET":1,"SECRET":2}"#, r#"["SECRET" 1]"#, "SECRET"] {
            assert!(!refusal(text.as_bytes()).1.contains("SECRET"));
        }
    }
}
