//! The events of a stream's batch, taken apart for a broker that takes them one by one.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CloudEvent {
    /// Its id, the same however often it comes.
    pub id: String,
    /// What stands in its type between `holdfast.` and `.v1`.
    pub name: String,
    /// Its order, reservation or position; empty if it has none.
    pub subject: String,
    /// The event as it was sealed: CloudEvents, structured mode.
    pub bytes: Bytes,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    subject: Cow<'a, str>,
}

/// The events of a body, in its order.
///
/// # Errors
/// Why it is none.
pub(super) fn events_of(body: &Bytes) -> Result<Vec<CloudEvent>, String> {
    let events: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|e| format!("the sealed batch is no list of events: {e}"))?;
    events.into_iter().map(|event| event_of(body, event)).collect()
}

fn event_of(body: &Bytes, event: &RawValue) -> Result<CloudEvent, String> {
    let head: Head<'_> = serde_json::from_str(event.get())
        .map_err(|e| format!("the sealed batch has something that is no event: {e}"))?;
    let name = head.kind.strip_prefix("holdfast.").unwrap_or(&head.kind);
    Ok(CloudEvent {
        id: head.id.clone().into_owned(),
        name: name.strip_suffix(".v1").unwrap_or(name).to_owned(),
        subject: head.subject.into_owned(),
        bytes: body.slice_ref(event.get().as_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_apart_byte_for_byte() {
        let one = r#"{"id":"3f9c-8","type":"holdfast.order.placed.v1","subject":"O-\u0031", "data":{"id":1}}"#;
        let two = r#"{"type":"else","id":"2"}"#;
        let events = events_of(&Bytes::from(format!("[{one} , {two}]"))).unwrap();
        assert_eq!(events[0].bytes, one);
        assert_eq!(
            (&*events[0].id, &*events[0].name, &*events[0].subject),
            ("3f9c-8", "order.placed", "O-1")
        );
        assert_eq!(
            (&*events[1].name, &*events[1].subject, &events[1].bytes[..]),
            ("else", "", two.as_bytes())
        );
        for wrong in ["", "{}", "[1]", r#"[{"id":"1"}]"#, r#"[{"type":"a"}]"#] {
            assert!(events_of(&Bytes::from(wrong)).is_err(), "{wrong}");
        }
    }
}
