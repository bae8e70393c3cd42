//! How single values of a message are read: leniently in their spelling, strictly in their meaning.
//!
//! Everything here is total. A value that means nothing is `None` or an error of serde's, never a default that looks
//! like a fact.

use std::fmt;

use jiff::civil::Date;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// An object and nothing else. A derived struct would take an array for its fields in order, so that a list of
/// strings could pass for metadata.
#[derive(Debug, Clone, Default)]
pub(super) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

/// A whole number, however it is written: `5`, `5.0`, `"5"` or Firestore's `{"integerValue": "5"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// So many.
    Of(u64),
    /// Less than none, which counts nothing.
    Negative,
}

impl Count {
    /// The number, `None` if it is negative.
    pub(super) fn get(self) -> Option<u64> {
        match self {
            Self::Of(count) => Some(count),
            Self::Negative => None,
        }
    }
}

/// Firestore's typed number.
#[derive(Deserialize)]
struct FirestoreNumber {
    #[serde(rename = "integerValue")]
    integer: Option<Box<Count>>,
    #[serde(rename = "doubleValue")]
    double: Option<f64>,
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl<'de> Visitor<'de> for Number {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Count, E> {
                Ok(Count::Of(value))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Count, E> {
                Ok(u64::try_from(value).map_or(Count::Negative, Count::Of))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Count, E> {
                match value {
                    value if value <= -1.0 => Ok(Count::Negative),
                    // `as` saturates and drops the fraction; both are right for a count.
                    value if value.is_finite() => Ok(Count::Of(value as u64)),
                    _ => Err(E::custom("not a finite number")),
                }
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Count, E> {
                match value.trim().parse::<i128>() {
                    Ok(number) if number < 0 => Ok(Count::Negative),
                    Ok(number) => Ok(Count::Of(u64::try_from(number).unwrap_or(u64::MAX))),
                    Err(_) => Err(E::custom("a string that is no whole number")),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Count, A::Error> {
                let number = FirestoreNumber::deserialize(MapAccessDeserializer::new(map))?;
                match (number.integer, number.double) {
                    (Some(count), _) => Ok(*count),
                    (None, Some(double)) => self.visit_f64(double),
                    (None, None) => Err(A::Error::custom("an object without integerValue or doubleValue")),
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// A word or a whole number as the text it is written as: dates and ids come as either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Text, E> {
                Ok(Text(value.trim().to_owned()))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
        }
        deserializer.deserialize_any(Word)
    }
}

/// The first string of a list of messages, or the message itself; whatever else stands there says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words(pub Option<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;
        impl<'de> Visitor<'de> for First {
            type Value = Words;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message or a list of messages")
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Words, E> {
                Ok(Words(Some(value.to_owned())))
            }
            fn visit_unit<E: Error>(self) -> Result<Words, E> {
                Ok(Words(None))
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<Words, E> {
                Ok(Words(None))
            }
            fn visit_u64<E: Error>(self, _: u64) -> Result<Words, E> {
                Ok(Words(None))
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<Words, E> {
                Ok(Words(None))
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Words, E> {
                Ok(Words(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Words, A::Error> {
                // The data's depth is bounded before it is parsed, so this recursion is too.
                let mut first = Words(None);
                while let Some(next) = seq.next_element::<Words>()? {
                    first.0 = first.0.or(next.0);
                }
                Ok(first)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Words(None))
            }
        }
        deserializer.deserialize_any(First)
    }
}

/// A calendar date written `YYYY-MM-DD` or `YYYYMMDD`, and in no other way: `2026-2-8`, `TODAY` and instants mean
/// different dates to different producers.
pub(super) fn date(text: &str) -> Option<Date> {
    let digits = |range: std::ops::Range<usize>| {
        let part = text.get(range)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<i16>().ok())?
    };
    let (year, month, day) = match text.len() {
        10 if text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-' => {
            (digits(0..4)?, digits(5..7)?, digits(8..10)?)
        }
        8 => (digits(0..4)?, digits(4..6)?, digits(6..8)?),
        _ => return None,
    };
    Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

/// The one date that a path names between slashes; `None` where it names none, or two.
pub(super) fn date_in(path: &str) -> Option<Date> {
    let mut dates = path.split('/').filter(|segment| segment.len() == 10).filter_map(date);
    let first = dates.next()?;
    dates.all(|other| other == first).then_some(first)
}

/// Whether a character could break a line, a terminal or a header it is shown in, or turn the text around it.
pub fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most `max` characters of `text` on one line, controls replaced, so that a producer's words can be shown anywhere and
/// pass for nobody else's.
pub(super) fn shown(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if is_control(c) { ' ' } else { c }).collect()
}
