//! Reading and writing the JSON documents of an envelope: each is one Rust type, strict both ways.
//!
//! The types of [`super::manifest`], [`super::metadata`], [`super::files`] and [`super::audit`] hold what the official
//! schemas allow and nothing else (`additionalProperties` false, spec/jmix-1.0 5); an absent member is left out, never
//! written as null. Messages name the place and never repeat the content.

use serde::Serialize;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde_json::Value;

use crate::archive::zip::{DosTime, days_of_month};
use crate::error::{Code, Error, Result};
use crate::json;

/// Where a document stands: the outer ones answer with `E_JSON` and `E_SCHEMA`, those of the payload with
/// `E_INDEX_JSON` and `E_INDEX_SCHEMA`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the clear.
    Outside,
    /// In the payload.
    Inside,
}

/// Parses `data` under the JSON rules of seg/1 3.1 and then as `T`.
pub fn parse<T: DeserializeOwned>(part: &str, data: &[u8], place: Place) -> Result<T> {
    let (schema, value) = match place {
        Place::Outside => (Code::Schema, json::parse(part, data)?),
        Place::Inside => (Code::IndexSchema, json::parse_index(part, data)?),
    };
    T::deserialize(Strict(&value)).map_err(|_| {
        let why = match serde_json::from_slice::<T>(data) {
            Err(error) => format!("line {}, column {}", error.line(), error.column()),
            Ok(_) => "an array stands where an object must".to_owned(),
        };
        Error::refused(schema, part, format!("not as the JMIX 1.0 schema has it, {why}"))
    })
}

/// A value of which a struct takes an object only. serde_json fills structs from arrays too, member by member in the order
/// of our declarations, and no other reader would see that document.
#[derive(Clone, Copy)]
struct Strict<'de>(&'de Value);

impl<'de> Deserializer<'de> for Strict<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Self::Error> {
        match self.0 {
            Value::Array(items) => SeqDeserializer::new(items.iter().map(Strict)).deserialize_any(visitor),
            Value::Object(members) => {
                let members = members.iter().map(|(key, value)| (key.as_str(), Strict(value)));
                MapDeserializer::new(members).deserialize_any(visitor)
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Self::Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Self::Error> {
        match self.0 {
            Value::Array(_) => Err(serde::de::Error::custom("an array stands where an object must")),
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, serde_json::Error> for Strict<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The bytes of a document: UTF-8, two spaces, no line feed at the end, no nulls.
pub fn write<T: Serialize>(document: &T) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(document).map_err(|error| Error::misuse(format!("no JSON: {error}")))
}

/// Whether `text` is a UUID with hyphens, in either case.
#[must_use]
pub fn is_uuid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Whether `text` is an RFC 3339 time with capital T, between 1980 and 2107, without a leap second.
#[must_use]
pub fn is_date_time(text: &str) -> bool {
    let Some((whole, rest)) = text.split_at_checked(19) else { return false };
    let fraction = rest.strip_prefix('.').map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let zone = fraction.unwrap_or(rest);
    let has_digits = fraction.is_none_or(|left| left.len() + 1 < rest.len());
    let offset = |zone: &str| {
        let shape = zone.len() == 6 && zone.starts_with(['+', '-']) && zone.as_bytes()[3] == b':';
        let part = |from: usize, below: u8| {
            let digits = zone.get(from..from + 2).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|text| text.parse::<u8>().ok()).is_some_and(|number| number < below)
        };
        shape && part(1, 24) && part(4, 60)
    };
    DosTime::from_timestamp(&format!("{whole}Z")).is_some() && has_digits && (zone == "Z" || offset(zone))
}

/// Whether `text` is a date `YYYY-MM-DD` that exists, from the year 1800 on.
#[must_use]
pub fn is_date(text: &str) -> bool {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|text| text.parse::<u32>().ok())
    };
    let hyphens = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    match (number(0, 4), number(5, 7), number(8, 10)) {
        (Some(year @ 1800..), Some(month), Some(day)) => {
            hyphens && days_of_month(year, month).is_some_and(|days| (1..=days).contains(&day))
        }
        _ => false,
    }
}

/// The same time of the next year; the 28th where there is no 29 February. `Misuse` for what is not
/// `YYYY-MM-DDThh:mm:ssZ`.
pub fn a_year_later(timestamp: &str) -> Result<String> {
    let year = timestamp.get(..4).and_then(|year| year.parse::<u32>().ok()).filter(|_| is_date_time(timestamp));
    let year = year.ok_or_else(|| Error::misuse("timestamp must be YYYY-MM-DDThh:mm:ssZ"))? + 1;
    let rest = if timestamp[4..].starts_with("-02-29") {
        format!("-02-28{}", &timestamp[10..])
    } else {
        timestamp[4..].into()
    };
    Ok(format!("{year:04}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::{Place, is_date, is_date_time, is_uuid, parse};
    use crate::envelope::files::File;
    use crate::envelope::manifest::Entity;

    #[test]
    fn an_object_is_never_read_from_an_array() {
        assert!(
            parse::<Entity>("x", br#"{"id":"a","name":"b","contact":{"system":"c","value":"d"}}"#, Place::Outside)
                .is_ok()
        );
        let sized = br#"[{"file":"a","hash":null,"size_bytes":1}]"#;
        assert_eq!(parse::<Vec<File>>("x", sized, Place::Inside).map(|lines| lines[0].size_bytes), Ok(Some(1)));
        for text in
            [r#"["a","b","c",null]"#, r#"{"id":"a","contact":["c","d"]}"#, r#"{"id":"a","assertion":["k",null]}"#]
        {
            assert!(parse::<Entity>("x", text.as_bytes(), Place::Outside).is_err(), "{text}");
        }
        let error = parse::<Vec<File>>("x", br#"[["a","b",1]]"#, Place::Inside).expect_err("an array").to_string();
        assert!(error.starts_with("E_INDEX_SCHEMA") && error.contains("an array"), "{error}");
        let error = parse::<Entity>("x", b"{\"id\":\"a\",\n\"x\":1}", Place::Outside).expect_err("unknown").to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn identifiers_and_times_are_what_their_formats_say() {
        assert!(is_uuid("6f57f5fa-1cd1-45be-a5c3-fb209be1e0ec"));
        for bad in
            ["", "6f57f5fa1cd145bea5c3fb209be1e0ec", "6f57f5fa-1cd1-45be-a5c3-fb209be1e0eg", "-6f57f5fa-1cd1-45be-a5c3"]
        {
            assert!(!is_uuid(bad), "{bad}");
        }
        for good in [
            "2025-05-24T06:14:00Z",
            "2025-05-24T06:14:00.123Z",
            "2025-05-24T06:14:00+10:00",
            "2025-05-24T06:14:00.1-03:30",
        ] {
            assert!(is_date_time(good), "{good}");
        }
        for bad in [
            "2025-05-24",
            "2025-05-24T06:14:00",
            "2025-05-24T06:14:00.Z",
            "2025-05-24T06:14:00+24:00",
            "2025-05-24 06:14:00Z",
        ] {
            assert!(!is_date_time(bad), "{bad}");
        }
    }

    #[test]
    fn dates_exist() {
        for good in ["1950-02-28", "2000-02-29", "1904-02-29", "1899-12-31", "2024-01-01"] {
            assert!(is_date(good), "{good}");
        }
        for bad in [
            "1900-02-29",
            "2025-02-29",
            "1950-13-01",
            "1950-00-01",
            "50-01-01",
            "1950-1-1",
            "1950/01/01",
            "",
            "19é0-01-01",
        ] {
            assert!(!is_date(bad), "{bad}");
        }
    }
}
