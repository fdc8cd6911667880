//! What caused a record: the id of the request and the trace that it belongs to, as the caller named
//! them. An operator who has either finds the records, and the other way round.
//!
//! A record carries it in front of its event, so that one without an origin is not a byte larger and
//! no layout of an event knows of it. The version in the record's header has [`ORIGIN_FLAG`] then.
//! Layout, at the body's begin, padded with zeros to a multiple of eight:
//!
//! ```text
//! id's bytes u8 | 1 if a trace follows, else 0, u8 | trace, 26 bytes, if it follows | id
//! ```

use compact_str::CompactString;

/// Set in a record's version if an origin stands in front of its event.
pub const ORIGIN_FLAG: u8 = 0x80;
/// The most characters of a request's id.
pub const REQUEST_ID_CHARS_MAX: usize = 128;

const HEAD_BYTES: usize = 2;
/// Version, trace id, parent id and flags of a W3C `traceparent`, without their hyphens.
const TRACE_BYTES: usize = 26;
/// Where the parts of a `traceparent` begin and end in its text.
const TRACE_PARTS: [(usize, usize); 4] = [(0, 2), (3, 35), (36, 52), (53, 55)];

/// What caused a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    request_id: &'a str,
    trace: Option<[u8; TRACE_BYTES]>,
}

/// What caused a record, taken out of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginView {
    /// The request's id.
    pub request_id: CompactString,
    /// The W3C `traceparent` that came with it.
    pub traceparent: Option<String>,
}

impl<'a> Origin<'a> {
    /// A request's id (1 to [`REQUEST_ID_CHARS_MAX`] visible ASCII characters) and its `traceparent`;
    /// nothing if the id is none. A trace that is none is left out.
    pub fn new(request_id: &'a str, traceparent: Option<&str>) -> Option<Self> {
        let valid = (1..=REQUEST_ID_CHARS_MAX).contains(&request_id.len())
            && request_id.bytes().all(|b| b.is_ascii_graphic());
        valid.then(|| Self { request_id, trace: traceparent.and_then(packed) })
    }

    /// The request's id.
    pub fn request_id(&self) -> &'a str {
        self.request_id
    }

    /// The W3C `traceparent` that came with it.
    pub fn traceparent(&self) -> Option<String> {
        self.trace.as_ref().map(unpacked)
    }

    /// The bytes that it takes in a record.
    pub fn bytes(&self) -> usize {
        let trace = self.trace.map_or(0, |trace| trace.len());
        (HEAD_BYTES + trace + self.request_id.len()).next_multiple_of(8)
    }

    /// Puts it into a body that has nothing yet.
    pub fn put(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.bytes();
        // The id is at most 128 long.
        out.extend_from_slice(&[self.request_id.len() as u8, self.trace.is_some().into()]);
        out.extend(self.trace.iter().flatten());
        out.extend_from_slice(self.request_id.as_bytes());
        out.resize(end, 0);
    }
}

impl OriginView {
    /// What the record with this version and body was caused by, if that is known.
    pub fn of(version: u8, body: &[u8]) -> Option<Self> {
        if version & ORIGIN_FLAG == 0 {
            return None;
        }
        let ([id_bytes, has_trace], rest) = body.split_first_chunk()?;
        let (trace, rest) = match has_trace {
            0 => (None, rest),
            _ => {
                rest.split_first_chunk::<TRACE_BYTES>().map(|(trace, rest)| (Some(trace), rest))?
            }
        };
        let id = str::from_utf8(rest.get(..usize::from(*id_bytes))?).ok()?;
        Some(Self { request_id: id.into(), traceparent: trace.map(unpacked) })
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

fn packed(text: &str) -> Option<[u8; TRACE_BYTES]> {
    let text = text.as_bytes();
    if text.len() != TRACE_PARTS[3].1 || [text[2], text[35], text[52]] != *b"---" {
        return None;
    }
    let mut packed = [0; TRACE_BYTES];
    let digits = TRACE_PARTS.iter().flat_map(|(begin, end)| &text[*begin..*end]);
    for (at, byte) in digits.enumerate() {
        packed[at / 2] = packed[at / 2] << 4 | digit(*byte)?;
    }
    Some(packed)
}

fn unpacked(packed: &[u8; TRACE_BYTES]) -> String {
    let mut text = String::with_capacity(TRACE_PARTS[3].1);
    for (at, byte) in packed.iter().enumerate() {
        if matches!(at, 1 | 17 | 25) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn body(origin: Origin<'_>) -> Vec<u8> {
        let mut body = Vec::new();
        origin.put(&mut body);
        assert_eq!(body.len(), origin.bytes());
        assert_eq!(body.len() % 8, 0);
        body
    }

    #[test]
    fn an_origin_reads_as_it_was_written() {
        let long = "x".repeat(REQUEST_ID_CHARS_MAX);
        for (id, trace) in [("r-1", None), ("r-1", Some(TRACE)), (&long, Some(TRACE))] {
            let body = body(Origin::new(id, trace).unwrap());
            let view = OriginView::of(ORIGIN_FLAG | 2, &body).unwrap();
            assert_eq!(view.request_id, id);
            assert_eq!(view.traceparent.as_deref(), trace);
            assert_eq!(OriginView::of(2, &body), None);
            let end = if id == "r-1" { 2 } else { body.len() - 8 };
            assert_eq!(OriginView::of(ORIGIN_FLAG, &body[..end]), None);
        }
    }

    #[test]
    fn what_is_no_id_is_no_origin_and_what_is_no_trace_is_left_out() {
        assert_eq!(Origin::new("", None), None);
        assert_eq!(Origin::new("a b", None), None);
        assert_eq!(Origin::new(&"x".repeat(129), None), None);
        let odd = TRACE.replace("4b", "4B");
        for trace in ["", "00-4b", odd.as_str(), &TRACE.replace('-', "_")] {
            let body = body(Origin::new("r", Some(trace)).unwrap());
            assert_eq!(OriginView::of(ORIGIN_FLAG, &body).unwrap().traceparent, None, "{trace}");
        }
    }

    #[test]
    fn a_small_one_takes_little() {
        assert_eq!(Origin::new("0123456789abcd", None).unwrap().bytes(), 16);
        assert_eq!(Origin::new("0123456789ab", Some(TRACE)).unwrap().bytes(), 40);
    }
}
