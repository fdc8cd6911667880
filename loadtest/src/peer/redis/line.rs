//! A connection to Redis: the crate writes commands and reads values; the socket is this one's own, so that
//! a request costs one task and no hand-over to another.

use std::path::PathBuf;

use redis::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::super::{
    asked::Asked,
    link::{Dial, Line},
};
use crate::{
    plan::Step,
    target::{ReservationName, Said},
};

/// Overdue holds, by deadline.
pub(super) const OVERDUE: &str = "overdue";
/// The outbox.
pub(super) const OUTBOX: &str = "outbox";
/// The last hold's number.
const LAST: &str = "last";
/// How long an answer is remembered, in milliseconds: a day, as Holdfast does by default.
const KEPT_MS: u64 = 86_400_000;
/// More than any answer of the scripts.
const ANSWER_BYTES_MAX: usize = 4_096;

/// The key of a SKU's stock.
pub(super) fn stock(sku: &str) -> String {
    format!("stock:{sku}")
}

/// The digests of the scripts.
#[derive(Debug, Clone)]
pub(super) struct Scripts {
    pub hold: String,
    pub settle: String,
}

/// Opens connections.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    pub socket: PathBuf,
    pub scripts: Scripts,
}

impl Dial for Dialer {
    type Line = RedisLine;

    async fn dial(&self) -> Result<RedisLine, String> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| e.to_string())?;
        Ok(RedisLine { stream, scripts: self.scripts.clone(), buffer: Vec::new() })
    }
}

/// A connection.
pub(super) struct RedisLine {
    stream: UnixStream,
    scripts: Scripts,
    buffer: Vec<u8>,
}

impl Line for RedisLine {
    async fn ask(&mut self, asked: Asked) -> Said {
        let command = self.command(&asked);
        self.buffer.clear();
        command.write_packed_command(&mut self.buffer);
        if self.stream.write_all(&self.buffer).await.is_err() {
            return Said::Broken;
        }
        self.buffer.clear();
        loop {
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(1..) if self.buffer.len() <= ANSWER_BYTES_MAX => {}
                _ => return Said::Broken,
            }
            if is_whole(&self.buffer) {
                return redis::parse_redis_value(&self.buffer).map_or(Said::Failed, said);
            }
        }
    }
}

impl RedisLine {
    fn command(&self, asked: &Asked) -> redis::Cmd {
        let key = format!("key:{}", asked.key);
        let mut command = redis::cmd("EVALSHA");
        match asked.step {
            Step::Reserve | Step::Order => {
                command.arg(&self.scripts.hold).arg(4 + asked.lines.len());
                command.arg(key).arg(OVERDUE).arg(OUTBOX).arg(LAST);
                for (sku, _) in &asked.lines {
                    command.arg(stock(sku));
                }
                let kind = if asked.step == Step::Order { "ordered" } else { "held" };
                command.arg(asked.fingerprint()).arg(kind).arg(&asked.customer);
                command.arg(asked.ttl_ms).arg(&asked.order_id).arg(asked.cart()).arg(KEPT_MS);
                for (_, quantity) in &asked.lines {
                    command.arg(*quantity);
                }
            }
            Step::Commit | Step::Release => {
                let hold = asked.hold_text();
                command.arg(&self.scripts.settle).arg(4);
                command.arg(key).arg(OVERDUE).arg(OUTBOX).arg(format!("hold:{hold}"));
                let kind = if asked.step == Step::Commit { "committed" } else { "released" };
                command.arg(asked.fingerprint()).arg(kind).arg(&asked.order_id);
                command.arg(KEPT_MS).arg(hold);
            }
        }
        command
    }
}

/// Whether an answer of one value that is no array has come whole.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(line) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return false };
    let length = bytes
        .strip_prefix(b"$")
        .and_then(|_| std::str::from_utf8(&bytes[1..line]).ok()?.parse::<usize>().ok());
    // A text follows its length, and has an end of line.
    length.is_none_or(|length| bytes.len() >= length.saturating_add(line + 4))
}

/// What an answer means.
fn said(value: Value) -> Said {
    let bytes = match &value {
        Value::BulkString(bytes) => bytes.as_slice(),
        _ => return Said::Failed,
    };
    match bytes {
        b"sold_out" => Said::SoldOut,
        b"wrong_state" => Said::Refused,
        b"reused" | b"unknown_sku" | b"unknown_hold" => Said::Invalid,
        _ => match bytes.strip_prefix(b"ok ").and_then(ReservationName::new) {
            Some(name) => Said::Granted { reservation: Some(name) },
            None => Said::Failed,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_it_is_whole() {
        let whole = b"$5\r\nok 12\r\n";
        for part in 0..whole.len() {
            assert!(!is_whole(&whole[..part]), "{part}");
        }
        assert!(is_whole(whole));
        assert!(is_whole(b"-ERR no\r\n") && is_whole(b":7\r\n") && is_whole(b"$-1\r\n"));
        let name = ReservationName::new(b"12");
        let value = redis::parse_redis_value(whole).unwrap();
        assert_eq!(said(value), Said::Granted { reservation: name });
        for (text, means) in [("sold_out", Said::SoldOut), ("wrong_state", Said::Refused)] {
            assert_eq!(said(Value::BulkString(text.into())), means);
        }
        assert_eq!(said(Value::BulkString(b"ok ".to_vec())), Said::Failed);
        assert_eq!(said(Value::Okay), Said::Failed);
    }
}
