//! How fields, instants and documents are written into Firestore, so that its console shows them readably.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};

use firestore::FirestoreValue;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use gcloud_sdk::google::firestore::v1::document_transform::FieldTransform;
use gcloud_sdk::google::firestore::v1::document_transform::field_transform::{ServerValue, TransformType};
use gcloud_sdk::google::firestore::v1::precondition::ConditionType;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::write::Operation;
use gcloud_sdk::google::firestore::v1::{Document, DocumentMask, Precondition, Value, Write};
use gcloud_sdk::prost_types;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::port::StoreError;

/// Nanoseconds in a microsecond, the finest that Firestore keeps.
const MICRO: i32 = 1_000;

/// The longest text written as it is. A date of sixty nodes has some tens of kilobytes.
const TEXT_MAX: usize = 200_000;
/// The most a document may hold: Firestore's 1 MiB, less what its other fields and names take.
const PACKED_MAX: usize = 1_000_000;
/// The most that is unpacked: a hundred times as much, beyond which it is no document of ours.
const UNPACKED_MAX: u64 = 100_000_000;

/// One field of a document being written.
pub(super) type Field = (&'static str, Option<Value>);

pub(super) fn text(text: &str) -> Option<Value> {
    value(ValueType::StringValue(text.to_owned()))
}

pub(super) fn integer(number: u64) -> Option<Value> {
    value(ValueType::IntegerValue(i64::try_from(number).unwrap_or(i64::MAX)))
}

pub(super) fn boolean(is: bool) -> Option<Value> {
    value(ValueType::BooleanValue(is))
}

pub(super) fn bytes(bytes: Vec<u8>) -> Option<Value> {
    value(ValueType::BytesValue(bytes))
}

/// An instant, rounded up to the microseconds that Firestore keeps: what waits for it is never woken too early.
pub(super) fn instant(at: Timestamp) -> Option<Value> {
    let up = match at.subsec_nanosecond() % MICRO {
        0 => 0,
        over => MICRO - over,
    };
    let at = at.saturating_add(jiff::SignedDuration::from_nanos(i64::from(up))).unwrap_or(at);
    let at = prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() };
    value(ValueType::TimestampValue(at))
}

fn value(value_type: ValueType) -> Option<Value> {
    Some(Value { value_type: Some(value_type) })
}

/// A value as a query compares it.
pub(super) fn compared(value: Option<Value>) -> FirestoreValue {
    FirestoreValue { value: value.unwrap_or_default() }
}

/// JSON as text, which the console shows, or compressed where it would be too long for a document.
pub(super) fn json(value: &impl Serialize) -> Result<Option<Value>, StoreError> {
    // Only a type that cannot be JSON at all fails here, and then nothing has been stored.
    let refused = |error: &dyn std::fmt::Display| StoreError::Unavailable(format!("write as JSON: {error}"));
    let written = serde_json::to_string(value).map_err(|error| refused(&error))?;
    if written.len() <= TEXT_MAX {
        return Ok(text(&written));
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    let packed =
        packed.write_all(written.as_bytes()).and_then(|()| packed.finish()).map_err(|error| refused(&error))?;
    if packed.len() > PACKED_MAX {
        let size = packed.len();
        return Err(refused(&format!("it has {size} bytes when compressed, and a document holds {PACKED_MAX}")));
    }
    Ok(bytes(packed))
}

/// A document as read, with the words for its errors.
pub(super) struct Read {
    document: Document,
}

impl Read {
    pub fn new(document: Document) -> Self {
        Self { document }
    }

    /// The document's last part of its name.
    pub fn id(&self) -> &str {
        self.document.name.rsplit('/').next().unwrap_or_default()
    }

    /// When it was last changed: what a conditional write compares.
    pub fn updated(&self) -> Option<prost_types::Timestamp> {
        self.document.update_time
    }

    fn field(&self, name: &str) -> Option<&ValueType> {
        self.document.fields.get(name)?.value_type.as_ref()
    }

    /// Whether there is a field of that name.
    pub fn has(&self, name: &str) -> bool {
        self.field(name).is_some_and(|value| !matches!(value, ValueType::NullValue(_)))
    }

    pub fn text(&self, name: &str) -> Result<&str, StoreError> {
        match self.field(name) {
            Some(ValueType::StringValue(text)) => Ok(text),
            found => Err(self.corrupt(name, found)),
        }
    }

    pub fn integer(&self, name: &str) -> Result<u64, StoreError> {
        match self.field(name) {
            Some(ValueType::IntegerValue(number)) => Ok(number.unsigned_abs()),
            found => Err(self.corrupt(name, found)),
        }
    }

    pub fn bytes(&self, name: &str) -> Result<&[u8], StoreError> {
        match self.field(name) {
            Some(ValueType::BytesValue(bytes)) => Ok(bytes),
            found => Err(self.corrupt(name, found)),
        }
    }

    pub fn instant(&self, name: &str) -> Result<Timestamp, StoreError> {
        match self.field(name) {
            Some(ValueType::TimestampValue(at)) => {
                Timestamp::new(at.seconds, at.nanos).map_err(|error| self.wrong(name, &error.to_string()))
            }
            found => Err(self.corrupt(name, found)),
        }
    }

    /// An instant that may be missing.
    pub fn maybe_instant(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        match self.field(name) {
            None | Some(ValueType::NullValue(_)) => Ok(None),
            Some(_) => self.instant(name).map(Some),
        }
    }

    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        let wrong = |error: &dyn std::fmt::Display| self.wrong(name, &error.to_string());
        match self.field(name) {
            Some(ValueType::BytesValue(packed)) => {
                let unpacked = GzDecoder::new(packed.as_slice()).take(UNPACKED_MAX);
                serde_json::from_reader(std::io::BufReader::new(unpacked)).map_err(|error| wrong(&error))
            }
            _ => serde_json::from_str(self.text(name)?).map_err(|error| wrong(&error)),
        }
    }

    fn corrupt(&self, name: &str, found: Option<&ValueType>) -> StoreError {
        self.wrong(name, if found.is_some() { "it has another type" } else { "it is missing" })
    }

    pub fn wrong(&self, name: &str, why: &str) -> StoreError {
        StoreError::Corrupt { what: self.document.name.clone(), why: format!("{name}: {why}") }
    }
}

/// What must be so for a write to be applied.
#[derive(Clone, Copy, Debug)]
pub(super) enum Only {
    /// The document is new.
    IfNew,
    /// The document is there.
    IfThere,
    /// It has not been changed since.
    IfUnchanged(prost_types::Timestamp),
    /// Whatever there is.
    Always,
}

impl Only {
    fn precondition(self) -> Option<Precondition> {
        let condition = match self {
            Self::IfNew => ConditionType::Exists(false),
            Self::IfThere => ConditionType::Exists(true),
            Self::IfUnchanged(since) => ConditionType::UpdateTime(since),
            Self::Always => return None,
        };
        Some(Precondition { condition_type: Some(condition) })
    }
}

/// Writes `fields` of the document called `name`; a field without a value is removed, others are left as they are.
pub(super) fn write(name: String, fields: Vec<Field>, only: Only) -> Write {
    let mask = fields.iter().map(|(name, _)| (*name).to_owned()).collect();
    let fields: HashMap<String, Value> =
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    Write {
        update_mask: Some(DocumentMask { field_paths: mask }),
        update_transforms: Vec::new(),
        current_document: only.precondition(),
        operation: Some(Operation::Update(Document { name, fields, create_time: None, update_time: None })),
    }
}

/// Lets the server work out a field as it applies `write`.
pub(super) fn transformed(mut write: Write, field: &str, transform: TransformType) -> Write {
    write.update_transforms.push(FieldTransform { field_path: field.to_owned(), transform_type: Some(transform) });
    write
}

/// Adds to a number.
pub(super) fn increment(by: u64) -> TransformType {
    TransformType::Increment(integer(by).unwrap_or_default())
}

/// Raises a number to at least this.
pub(super) fn at_least(number: u64) -> TransformType {
    TransformType::Maximum(integer(number).unwrap_or_default())
}

/// The instant of the commit by the server's clock, which no two commits see in different orders.
pub(super) fn commit_instant() -> TransformType {
    TransformType::SetToServerValue(ServerValue::RequestTime.into())
}
