//! Freeze windows: times in which nobody may change what a peak sale depends on, unless they insist.

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// From a time on and up to another, replays and discards are refused unless they are forced with a
/// reason, which is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Its begin, RFC 3339.
    pub from: Timestamp,
    /// Its end, RFC 3339.
    pub until: Timestamp,
    /// What it is for.
    pub reason: String,
}

impl Freeze {
    /// Whether it is on.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }

    /// Checks it.
    ///
    /// # Errors
    /// What is wrong, beginning with the field's name.
    pub fn validate(&self) -> Result<(), String> {
        if self.until <= self.from {
            return Err("until: must be after `from`".into());
        }
        if self.reason.trim().is_empty() || self.reason.len() > 500 {
            return Err("reason: must be 1 to 500 bytes".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_open_from_its_begin_and_no_longer_at_its_end() {
        let freeze = |from, until| Freeze {
            from: Timestamp::from_millis(from),
            until: Timestamp::from_millis(until),
            reason: "sale".into(),
        };
        let open = |at| freeze(10, 20).is_open(Timestamp::from_millis(at));
        assert_eq!([9, 10, 19, 20].map(open), [false, true, true, false]);
        assert!(freeze(10, 20).validate().is_ok());
        assert!(freeze(10, 10).validate().unwrap_err().starts_with("until:"));
        let nameless = Freeze { reason: " ".into(), ..freeze(10, 20) };
        assert!(nameless.validate().unwrap_err().starts_with("reason:"));
    }
}
