//! How urgent a request says it is: the `Priority` header of RFC 9218, as far as its urgency goes. What is
//! no such header is ignored, as the RFC wants it.

use axum::http::HeaderMap;

/// From this urgency on a request can wait; 7 is the least urgent, 3 what nothing said is.
const CAN_WAIT_FROM: u8 = 5;

/// Whether a request says that it can wait: `u=5` to `u=7`.
pub(super) fn can_wait(headers: &HeaderMap) -> bool {
    let values = headers.get_all("priority").iter().filter_map(|value| value.to_str().ok());
    // Of several the last counts, as in any dictionary of RFC 9651.
    values.flat_map(|value| value.split(',')).filter_map(urgency).next_back() >= Some(CAN_WAIT_FROM)
}

fn urgency(member: &str) -> Option<u8> {
    let (name, value) = member.split(';').next()?.split_once('=')?;
    let [digit @ b'0'..=b'7'] = value.trim_end().as_bytes() else { return None };
    (name.trim_start() == "u").then_some(digit - b'0')
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_request_can_wait_from_urgency_5_on() {
        for (values, expected) in [
            (&["u=5"][..], true),
            (&["i, u=7"], true),
            (&[" u=6;x=1 , i"], true),
            (&["u=1, u=6"], true),
            (&["u=6", "u=1"], false),
            (&["u=4"], false),
            (&["u=8"], false),
            (&["u=-6"], false),
            (&["u=66"], false),
            (&["u"], false),
            (&["ux=6"], false),
            (&[""], false),
            (&[], false),
        ] {
            let header = |value: &&str| {
                (HeaderName::from_static("priority"), HeaderValue::from_str(value).unwrap())
            };
            let mut headers = HeaderMap::new();
            for (name, value) in values.iter().map(header) {
                headers.append(name, value);
            }
            assert_eq!(can_wait(&headers), expected, "{values:?}");
        }
    }
}
