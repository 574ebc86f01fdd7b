//! Type and time of a record, read without reading all of it.

use cairn_model::Timestamp;
use serde::Deserialize;
use std::borrow::Cow;

/// Type and time of a record's events.
pub(super) struct Head<'a> {
    pub event_type: Cow<'a, str>,
    timestamp: Cow<'a, str>,
}

impl<'a> Head<'a> {
    /// Reads as little of the body as possible: this release writes type and time at its beginning. A body of
    /// another form is read as JSON.
    pub fn of(body: &'a str) -> Option<Self> {
        Self::at_beginning(body).or_else(|| Self::by_json(body))
    }

    fn at_beginning(body: &'a str) -> Option<Self> {
        let rest = body.strip_prefix("{\"event_id\":\"")?;
        let (_, rest) = rest.split_once("\",\"event_type\":\"")?;
        let (event_type, rest) = rest.split_once('"')?;
        let rest =
            rest.strip_prefix(",\"schema\":")?.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let (timestamp, _) = rest.strip_prefix(",\"metadata\":{\"timestamp\":\"")?.split_once('"')?;
        let is_plain = !event_type.contains('\\') && !timestamp.contains('\\');
        is_plain.then(|| Self { event_type: event_type.into(), timestamp: timestamp.into() })
    }

    fn by_json(body: &'a str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow)]
            event_type: Cow<'a, str>,
            #[serde(borrow)]
            metadata: Metadata<'a>,
        }
        #[derive(Deserialize)]
        struct Metadata<'a> {
            #[serde(borrow)]
            timestamp: Cow<'a, str>,
        }
        let body: Body<'a> = serde_json::from_str(body).ok()?;
        Some(Self { event_type: body.event_type, timestamp: body.metadata.timestamp })
    }

    pub fn at(&self) -> Option<Timestamp> {
        Timestamp::parse(&self.timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_another_form_is_read_too() {
        let ours = r#"{"event_id":"x","event_type":"RunFailed","schema":1,"metadata":{"timestamp":"2026-01-01T00:00:00Z","user_id":"a"},"event_data":{}}"#;
        let other = r#"{"metadata":{"timestamp":"2026-01-01T00:00:00Z"},"event_data":{"event_type":"no"},"event_type":"RunFailed"}"#;
        for body in [ours, other] {
            let head = Head::of(body).expect("a head");
            assert_eq!(
                (head.event_type.as_ref(), head.at()),
                ("RunFailed", Timestamp::parse("2026-01-01T00:00:00Z"))
            );
        }
        assert!(Head::at_beginning(ours).is_some() && Head::at_beginning(other).is_none());
        assert!(Head::of("nonsense").is_none());
    }
}
