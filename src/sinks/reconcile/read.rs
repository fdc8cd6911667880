//! Reading a partner's stock: GET, page by page, again if it changed on the way.

use std::{collections::hash_map::Entry, time::Duration};

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use reqwest::Url;
use serde_json::Value;

use super::judge::{Positions, Told};
use crate::{
    config::{Auth, Reconcile, SinkConfig},
    delivery::Outcome,
    sinks::{
        auth::Credentials,
        http::{built, own_headers},
        wire::{Answer, Wire},
    },
};

/// The least time between two readings of a stock that changed.
const REREAD_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no reading. No secrets in it, and nothing of what the partner said but its status.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the partner can't be read: {0}")]
    Unreachable(String),
    #[error("the partner did not answer within {0} ms (`reconcile.page_ms_max`)")]
    Late(u64),
    #[error("the partner answered {0}")]
    Status(u16),
    #[error(
        "the partner's answer is no JSON, or more than {0} bytes of it (`reconcile.page_bytes_max`)"
    )]
    Garbage(u64),
    #[error("the partner's answer: {what} at `{at}`{row}")]
    Shape { what: &'static str, at: String, row: String },
    #[error("the partner told {sku} at {location} twice: its pages overlap")]
    Twice { sku: String, location: String },
    #[error("the partner has more than {0} positions (`reconcile.positions_max`)")]
    TooMany(u64),
    #[error("the partner's pages go round: page {0} begins where the one before did")]
    Round(u64),
    #[error("the partner's stock changed under {0} readings in a row (`reconcile.readings_max`)")]
    Restless(u64),
}

/// A partner's stock of one moment, or where it has no word for that, of as many as pages.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub positions: Positions,
    pub revision: Option<String>,
    pub readings: u64,
    pub pages: u64,
    /// Whether every position said what is sold and not shipped.
    pub has_committed: bool,
}

/// See the module.
pub(super) struct Reader {
    config: Reconcile,
    address: Url,
    own: HeaderMap,
    wire: Wire,
    credentials: Credentials,
}

impl Reader {
    /// A reader for a checked configuration.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn new(sink: &SinkConfig, config: &Reconcile) -> Result<Self, String> {
        let connector = sink.connector()?;
        let mut base = Url::parse(&sink.url).map_err(|e| format!("url: {e}"))?;
        let own = own_headers(sink, &mut base)?;
        let token_url = match &connector.auth {
            Auth::Oauth2 { token_url, .. } => token_url.as_str(),
            _ => "",
        };
        let secure = base.scheme() == "https" || token_url.starts_with("https:");
        let timeout = Duration::from_millis(config.page_ms_max);
        let wire = Wire::new(secure, connector.ca_file.as_deref(), timeout)?;
        let credentials = Credentials::new(&connector.auth, &wire)?;
        let address = config.address(&base)?;
        Ok(Self { config: config.clone(), address, own, wire, credentials })
    }

    /// Reads it whole.
    pub async fn read(&self) -> Result<Reading, ReadError> {
        for readings in 1..=self.config.readings_max {
            if let Some(reading) = self.read_once().await? {
                return Ok(Reading { readings, ..reading });
            }
            tokio::time::sleep(REREAD_PAUSE).await;
        }
        Err(ReadError::Restless(self.config.readings_max))
    }

    /// `None` if it changed on the way.
    async fn read_once(&self) -> Result<Option<Reading>, ReadError> {
        let mut reading = Reading { has_committed: true, ..Reading::default() };
        let mut after: Option<String> = None;
        loop {
            let page = self.page(after.as_deref()).await?;
            reading.pages += 1;
            let revision = text_at(&page, &self.config.revision);
            if reading.pages == 1 {
                reading.revision = revision;
            } else if reading.revision != revision {
                return Ok(None);
            }
            let rows = page.pointer(&self.config.rows).and_then(Value::as_array);
            let rows = rows.ok_or_else(|| self.shape("no array", &self.config.rows, None))?;
            for (at, row) in rows.iter().enumerate() {
                self.take(&mut reading, at, row)?;
            }
            let next = text_at(&page, &self.config.next).filter(|_| !self.config.after.is_empty());
            match next {
                None => return Ok(Some(reading)),
                Some(next) if after.as_ref() == Some(&next) => {
                    return Err(ReadError::Round(reading.pages + 1));
                }
                // A page without positions has nothing that bounds how many of them there are.
                Some(_) if rows.is_empty() && reading.pages > self.config.positions_max => {
                    return Err(ReadError::TooMany(self.config.positions_max));
                }
                Some(next) => after = Some(next),
            }
        }
    }

    fn take(&self, reading: &mut Reading, at: usize, row: &Value) -> Result<(), ReadError> {
        let Reconcile { sku, location, on_hand, committed, positions_max, .. } = &self.config;
        let text = |pointer: &String| {
            let text = text_at(row, pointer);
            text.ok_or_else(|| self.shape("no name", pointer, Some(at)))
        };
        let units = |pointer: &String| {
            let units = row.pointer(pointer).and_then(whole);
            units.ok_or_else(|| self.shape("no whole number", pointer, Some(at)))
        };
        let key = (text(sku)?, text(location)?);
        let on_hand = units(on_hand)?;
        let committed = if committed.is_empty() { None } else { Some(units(committed)?) };
        reading.has_committed &= committed.is_some();
        if reading.positions.len() as u64 >= *positions_max {
            return Err(ReadError::TooMany(*positions_max));
        }
        match reading.positions.entry(key) {
            Entry::Vacant(place) => drop(place.insert(Told { on_hand, committed })),
            Entry::Occupied(taken) => {
                let (sku, location) = taken.key().clone();
                return Err(ReadError::Twice { sku, location });
            }
        }
        Ok(())
    }

    fn shape(&self, what: &'static str, at: &str, row: Option<usize>) -> ReadError {
        let row = row.map_or_else(String::new, |row| format!(" of position {row} of a page"));
        ReadError::Shape { what, at: at.to_owned(), row }
    }

    async fn page(&self, after: Option<&str>) -> Result<Value, ReadError> {
        let ms = self.config.page_ms_max;
        let asked = tokio::time::timeout(Duration::from_millis(ms), self.ask(after)).await;
        let answer = asked.map_err(|_| ReadError::Late(ms))??;
        if answer.status != 200 {
            return Err(ReadError::Status(answer.status));
        }
        answer.json.ok_or(ReadError::Garbage(self.config.page_bytes_max))
    }

    async fn ask(&self, after: Option<&str>) -> Result<Answer, ReadError> {
        let failed = |fault| {
            ReadError::Unreachable(match Outcome::from(fault) {
                Outcome::Failed { reason, .. } => reason,
                Outcome::Denied { status, .. } => format!("it refuses us ({status})"),
                other => format!("{other:?}"),
            })
        };
        let mut renewed = false;
        loop {
            let (mut url, mut headers) = (self.address.clone(), self.own.clone());
            if !self.config.limit.is_empty() {
                let most = self.config.page_max.to_string();
                url.query_pairs_mut().append_pair(&self.config.limit, &most);
            }
            if let Some(after) = after {
                url.query_pairs_mut().append_pair(&self.config.after, after);
            }
            self.credentials.apply(&mut url, &mut headers).await.map_err(failed)?;
            let carried = headers.clone();
            let request = built(Method::GET, &url, headers, Bytes::new()).map_err(failed)?;
            let answer = self.wire.exchange(request, self.config.page_bytes_max).await;
            let answer = answer.map_err(failed)?;
            if answer.status == 401 && !renewed && self.credentials.renew(&carried).await {
                renewed = true;
                continue;
            }
            return Ok(answer);
        }
    }
}

/// A text, or a number as one.
fn text_at(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer).filter(|_| !pointer.is_empty())? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A whole number, also where an ERP writes it as 12.0 or as a text.
fn whole(value: &Value) -> Option<i64> {
    let of_float = |number: f64| {
        let is_whole = number.fract() == 0.0 && number.abs() <= (1_i64 << 53) as f64;
        is_whole.then_some(number as i64)
    };
    match value {
        Value::Number(number) => number.as_i64().or_else(|| of_float(number.as_f64()?)),
        Value::String(text) => text.parse().ok().or_else(|| of_float(text.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_whole_or_none() {
        for (text, expected) in [
            ("12", Some(12)),
            ("-3.0", Some(-3)),
            ("\"7\"", Some(7)),
            ("\"7.000\"", Some(7)),
            ("1.5", None),
            ("1e300", None),
            ("\"x\"", None),
            ("null", None),
        ] {
            assert_eq!(whole(&serde_json::from_str(text).unwrap()), expected, "{text}");
        }
    }
}
