//! Where in a trace something happened, so that what follows from it can be shown as following from it.
//!
//! It is carried and decides nothing. The form is W3C's `traceparent`; who exports spans is none of the core's business.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Messages beside the newest that a dispatch names as what it follows from. A join has some ten members.
pub const LINKS_MAX: usize = 15;
/// Characters of the form that is written.
const LENGTH: usize = 55;

/// A span of a trace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TraceContext {
    /// The trace's id, never all zeros.
    pub trace: [u8; 16],
    /// The span's id, never all zeros.
    pub span: [u8; 8],
    /// Whether spans of this trace are recorded.
    pub sampled: bool,
}

/// Not a `traceparent`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a traceparent: 00-TRACE-SPAN-FLAGS in small hexadecimal digits")]
pub struct Malformed;

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(if self.sampled { "-01" } else { "-00" })
    }
}

impl FromStr for TraceContext {
    type Err = Malformed;

    /// Reads version 00, and of later versions what they share with it.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bytes = text.as_bytes();
        let version = octets::<1>(bytes.get(..2).ok_or(Malformed)?)?[0];
        let whole = bytes.len() == LENGTH || version > 0 && bytes.get(LENGTH) == Some(&b'-');
        let parted = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        if version == 0xff || !whole || !parted {
            return Err(Malformed);
        }
        let trace = octets(bytes.get(3..35).ok_or(Malformed)?)?;
        let span = octets(bytes.get(36..52).ok_or(Malformed)?)?;
        let flags = octets::<1>(bytes.get(53..LENGTH).ok_or(Malformed)?)?[0];
        if trace == [0; 16] || span == [0; 8] {
            return Err(Malformed);
        }
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

/// As many bytes as two digits each tell.
fn octets<const N: usize>(digits: &[u8]) -> Result<[u8; N], Malformed> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(Malformed),
    };
    let mut found = [0; N];
    if digits.len() != 2 * N {
        return Err(Malformed);
    }
    for (byte, pair) in found.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(found)
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The messages that something follows from, each with when it counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Traces(Vec<(Timestamp, TraceContext)>);

impl Traces {
    /// One message, where it brought a context.
    pub fn of(at: Option<Timestamp>, context: Option<TraceContext>) -> Self {
        Self(at.zip(context).into_iter().collect())
    }

    /// These as well.
    pub fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// The newest, and the others from the newest on, at most [`LINKS_MAX`] of them.
    pub fn parent_and_links(&self) -> (Option<TraceContext>, Vec<TraceContext>) {
        let mut found = self.0.clone();
        found.sort_unstable_by(|one, other| other.cmp(one));
        let mut links: Vec<TraceContext> = Vec::new();
        for (_, context) in found {
            if !links.contains(&context) && links.len() <= LINKS_MAX {
                links.push(context);
            }
        }
        let parent = links.first().copied();
        (parent, links.into_iter().skip(1).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_written_is_read() {
        let context: TraceContext = SOUND.parse().unwrap();
        assert_eq!(context.to_string(), SOUND);
        assert!(context.sampled);
        let json = serde_json::to_string(&context).unwrap();
        assert_eq!(json, format!("\"{SOUND}\""));
        assert_eq!(serde_json::from_str::<TraceContext>(&json).unwrap(), context);
        let later = format!("cc{}-what-comes-after", &SOUND[2..]);
        assert_eq!(later.parse(), Ok(context));
    }

    #[test]
    fn nothing_else_is_read() {
        let upper = SOUND.to_uppercase();
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let no_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let version = format!("ff{}", &SOUND[2..]);
        let longer = format!("{SOUND}-more");
        let glued = format!("01{}x", &SOUND[2..]);
        let wide = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01";
        for text in ["", "00", "é", &SOUND[..54], &upper, zeros, no_span, &version, &longer, &glued, wide, "\n"] {
            assert_eq!(text.parse::<TraceContext>(), Err(Malformed), "{text:?}");
        }
    }

    #[test]
    fn the_newest_is_the_parent_and_nothing_is_named_twice() {
        let context = |span: u8| TraceContext { trace: [1; 16], span: [span; 8], sampled: true };
        let at = |second| Timestamp::from_second(second).ok();
        let mut traces = Traces::of(at(1), Some(context(1)));
        traces.extend(&Traces::of(at(3), Some(context(3))));
        traces.extend(&Traces::of(at(2), Some(context(2))));
        traces.extend(&Traces::of(at(0), Some(context(3))));
        traces.extend(&Traces::of(at(9), None));
        assert_eq!(traces.parent_and_links(), (Some(context(3)), vec![context(2), context(1)]));
        for span in 4..100 {
            traces.extend(&Traces::of(at(span.into()), Some(context(span))));
        }
        assert_eq!(traces.parent_and_links().1.len(), LINKS_MAX);
    }
}
