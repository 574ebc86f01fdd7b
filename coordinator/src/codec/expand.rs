//! Records to single events, as people and other systems read them. Knows no type of event: what a later release
//! writes can be shown by this one.

use crate::store::StoredRecord;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A record's body, its values still JSON text.
#[derive(Debug, Deserialize)]
pub(super) struct Body<'a> {
    #[serde(borrow)]
    pub event_id: Cow<'a, str>,
    #[serde(borrow)]
    pub event_type: Cow<'a, str>,
    pub schema: u32,
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    #[serde(borrow)]
    pub event_data: BTreeMap<Cow<'a, str>, &'a RawValue>,
    #[serde(borrow, default)]
    pub each: BTreeMap<Cow<'a, str>, Vec<&'a RawValue>>,
}

/// What stands beside the data of an event.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Metadata<'a> {
    /// When it happened, RFC 3339.
    #[serde(borrow)]
    pub timestamp: Cow<'a, str>,
    /// Who asked for it.
    #[serde(borrow)]
    pub user_id: Cow<'a, str>,
    /// The same for all that one owner of the run did.
    #[serde(borrow)]
    pub correlation_id: Cow<'a, str>,
    /// The first event of the same decision, if this is not it.
    #[serde(borrow)]
    pub causation_id: Option<Cow<'a, str>>,
}

/// One event as `cairn events` prints it.
#[derive(Debug, Serialize)]
pub struct StoredEvent<'a> {
    /// Its place in the whole log.
    pub position: u64,
    /// Its id, unique.
    pub event_id: String,
    /// The stream that it belongs to.
    pub stream_id: &'a str,
    /// What happened.
    pub event_type: &'a str,
    /// The particulars.
    pub event_data: BTreeMap<&'a str, &'a RawValue>,
    /// When, by whom, why.
    pub metadata: &'a Metadata<'a>,
    /// Its place in its stream.
    pub version: u64,
    /// The version of the form that it is stored in.
    pub schema: u32,
}

/// Hands the events of a record to `show`, one by one.
///
/// # Errors
/// The body is not what a record holds.
pub fn expand(
    record: &StoredRecord,
    mut show: impl FnMut(&StoredEvent<'_>),
) -> Result<(), serde_json::Error> {
    let body: Body<'_> = serde_json::from_str(&record.body)?;
    let first_id = Uuid::parse_str(&body.event_id).map_err(serde::de::Error::custom)?;
    for at in 0..record.count {
        let shared = body.event_data.iter().map(|(name, value)| (name.as_ref(), *value));
        let own =
            body.each.iter().filter_map(|(name, values)| Some((name.as_ref(), *values.get(at as usize)?)));
        show(&StoredEvent {
            position: record.position + u64::from(at),
            event_id: Uuid::from_u128(first_id.as_u128().wrapping_add(u128::from(at))).to_string(),
            stream_id: record.stream.as_str(),
            event_type: &body.event_type,
            event_data: shared.chain(own).collect(),
            metadata: &body.metadata,
            version: record.first_version + u64::from(at),
            schema: body.schema,
        });
    }
    Ok(())
}
