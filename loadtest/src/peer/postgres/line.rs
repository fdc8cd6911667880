//! A connection to PostgreSQL, with its two statements prepared.

use tokio_postgres::{Client, Config, Error, NoTls, Row, Statement, types::Type};

use super::super::{
    asked::Asked,
    link::{Dial, Line},
};
use crate::{
    plan::Step,
    target::{ReservationName, Said},
};

const TAKE: &str = "SELECT take($1, $2, $3, $4, $5, $6, $7, $8)";
const SETTLE: &str = "SELECT settle($1, $2, $3, $4, $5)";
/// Raised by `take` where the last unit went between its look and its update.
const SOLD_OUT: &str = "HF001";

/// Opens connections.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    pub config: Config,
}

impl Dial for Dialer {
    type Line = PostgresLine;

    async fn dial(&self) -> Result<PostgresLine, String> {
        self.open().await.map_err(|error| told(&error))
    }
}

impl Dialer {
    async fn open(&self) -> Result<PostgresLine, Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        // How it ends is told to each request on it.
        tokio::spawn(async move { drop(connection.await) });
        let text = Type::TEXT;
        let [a, b, c, d, e] = std::array::from_fn(|_| text.clone());
        let types = [a, b, c, d, Type::INT8, e, Type::TEXT_ARRAY, Type::INT4_ARRAY];
        let take = client.prepare_typed(TAKE, &types).await?;
        let settle = client.prepare(SETTLE).await?;
        Ok(PostgresLine { client, take, settle })
    }
}

/// What an error says, with what the server says.
pub(super) fn told(error: &Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{error}: {}", said.message()),
        None => error.to_string(),
    }
}

/// A connection.
pub(super) struct PostgresLine {
    client: Client,
    take: Statement,
    settle: Statement,
}

impl Line for PostgresLine {
    async fn ask(&mut self, asked: Asked) -> Said {
        let answered = match asked.step {
            Step::Reserve | Step::Order => self.take(&asked).await,
            Step::Commit | Step::Release => self.settle(&asked).await,
        };
        match answered {
            Ok(row) => row.try_get::<_, &str>(0).map_or(Said::Failed, said),
            Err(error) => match error.code() {
                Some(code) if code.code() == SOLD_OUT => Said::SoldOut,
                Some(_) => Said::Failed,
                None => Said::Broken,
            },
        }
    }
}

impl PostgresLine {
    async fn take(&self, asked: &Asked) -> Result<Row, Error> {
        let Asked { key, customer, order_id, .. } = asked;
        let kind = if asked.step == Step::Order { "ordered" } else { "held" };
        let skus: Vec<&str> = asked.lines.iter().map(|(sku, _)| sku.as_str()).collect();
        let units: Vec<i32> =
            asked.lines.iter().map(|(_, n)| i32::try_from(*n).unwrap_or(i32::MAX)).collect();
        let ttl = i64::try_from(asked.ttl_ms).unwrap_or(i64::MAX);
        let request = asked.fingerprint();
        self.client
            .query_one(&self.take, &[key, &request, &kind, customer, &ttl, order_id, &skus, &units])
            .await
    }

    async fn settle(&self, asked: &Asked) -> Result<Row, Error> {
        let kind = if asked.step == Step::Commit { "committed" } else { "released" };
        // No hold has this number.
        let hold: i64 = asked.hold_text().parse().unwrap_or(0);
        let request = asked.fingerprint();
        let asked_for: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&asked.key, &request, &kind, &asked.order_id, &hold];
        self.client.query_one(&self.settle, &asked_for).await
    }
}

/// What an answer means.
fn said(text: &str) -> Said {
    match text {
        "sold_out" => Said::SoldOut,
        "wrong_state" => Said::Refused,
        "reused" | "unknown_sku" | "unknown_hold" => Said::Invalid,
        _ => match text.strip_prefix("ok ").and_then(|id| ReservationName::new(id.as_bytes())) {
            Some(name) => Said::Granted { reservation: Some(name) },
            None => Said::Failed,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_means_one_thing() {
        let name = ReservationName::new(b"12");
        assert_eq!(said("ok 12"), Said::Granted { reservation: name });
        assert_eq!((said("sold_out"), said("wrong_state")), (Said::SoldOut, Said::Refused));
        assert_eq!(
            (said("reused"), said("ok "), said("")),
            (Said::Invalid, Said::Failed, Said::Failed)
        );
    }
}
