//! A [`Partner`] that is a topic of Kafka: every event of a batch becomes a record, with the event's subject
//! as key.
//!
//! It promises that a part is done only when every in-sync replica has every event of it; that events of one
//! key are in one partition, in their order; that an attempt ends within the configured time; and that no
//! secret is printed. With `dedupe = "lookup"`, the default, a part is one transaction, and an event is there
//! once for whoever reads what is committed: before what may be there is sent again, the transaction that may
//! have brought it is ended, and the topic is read back. With `dedupe = "line"` it may be there twice, with
//! the same id.
//!
//! The client is written here, since what is wanted of the protocol is little (a dozen requests, each in one
//! version) and nothing in pure Rust does it: `rskafka` knows no transactions, retries for itself without end,
//! and would bring two dozen crates.

mod cluster;
mod connection;
mod identity;
mod records;
mod send;
mod tls;
mod transaction;
mod trouble;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Mutex;

use self::{
    cluster::Cluster,
    connection::Access,
    identity::Identity,
    send::{Sender, Sent},
    transaction::{Transactions, committed},
    trouble::Trouble,
};
use super::{
    cloud_events::{CloudEvent, events_of},
    fault::Fault,
    secrets::Secrets,
};
use crate::{
    config::{Dedupe, SinkConfig, broker_address},
    delivery::{Effect, Outcome, Part, Partner, Sending},
    feed::Rejected,
};

/// The longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 1_000;

/// What a session is made from.
struct Settings {
    /// Hosts and ports.
    brokers: Vec<(String, u16)>,
    access: Access,
    topic: String,
    timeout: Duration,
    lookback_records: i64,
}

/// What is kept between attempts.
struct Session {
    cluster: Cluster,
    transactions: Option<Transactions>,
}

/// See the module.
pub struct KafkaPartner {
    settings: Settings,
    /// With it a part is a transaction.
    transactional_id: Option<String>,
    dedupe: Dedupe,
    secrets: Secrets,
    session: Mutex<Option<Session>>,
}

/// The places of a part's events, by partition.
type Places = BTreeMap<i32, Vec<usize>>;

impl KafkaPartner {
    /// A connector for a checked configuration.
    ///
    /// # Errors
    /// What is wrong, beginning with the field.
    pub fn new(config: &SinkConfig) -> Result<Self, String> {
        let config = config.clone().bounded()?;
        let kafka = &config.kafka;
        let first = broker_address(&config.url).map_err(|e| format!("url: {e}"))?;
        let mut brokers = vec![(first.host, first.port)];
        for url in &kafka.brokers {
            let more = broker_address(url).map_err(|e| format!("kafka.brokers: {e}"))?;
            brokers.push((more.host, more.port));
        }
        let identity = Identity::read(kafka)?;
        let tls = first.secure.then(|| tls::trusting(kafka.ca_file.as_deref())).transpose()?;
        let in_transactions = config.dedupe == Dedupe::Lookup;
        let named = || kafka.transactional_id.clone();
        let named = || named().unwrap_or_else(|| format!("holdfast-{}", config.name));
        Ok(Self {
            transactional_id: in_transactions.then(named),
            dedupe: config.dedupe,
            secrets: Secrets::of_texts(&identity.secrets()),
            settings: Settings {
                brokers,
                access: Access { tls, identity },
                topic: kafka.topic.clone(),
                timeout: Duration::from_millis(config.timeout_ms),
                lookback_records: i64::try_from(kafka.lookback_records).unwrap_or(i64::MAX),
            },
            session: Mutex::new(None),
        })
    }

    async fn attempt(&self, part: &Part) -> Outcome {
        let outcome = self.deliver(part).await.unwrap_or_else(Outcome::from);
        self.secrets.struck_from(outcome, None, REASON_CHARS_MAX)
    }

    async fn deliver(&self, part: &Part) -> Result<Outcome, Fault> {
        if part.uncertain && self.dedupe == Dedupe::None {
            return Err(Fault::unknown(
                "an earlier attempt may have had its effect, and the receiver is said to recognise no \
                 repeats: not sent again",
            ));
        }
        let events = events_of(&part.body).map_err(Fault::Unfit)?;
        if events.is_empty() {
            return Ok(Outcome::Done { status: 200, rejected: Vec::new() });
        }
        let touched = AtomicBool::new(false);
        let effect = || match touched.load(Ordering::Relaxed) {
            true => Effect::Unknown,
            false => Effect::None,
        };
        let done = tokio::time::timeout(self.settings.timeout, self.bring(part, &events, &touched));
        match done.await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(trouble)) => Err(trouble.fault(effect())),
            Err(_) => {
                let late = format!("not done within {} ms", self.settings.timeout.as_millis());
                Err(Fault::Failed { reason: late, retry_after: None, effect: effect() })
            }
        }
    }

    /// Brings the events. A session that saw trouble, or was given up in the middle, is not kept: the next
    /// one begins by ending whatever is still open.
    async fn bring(
        &self,
        part: &Part,
        events: &[CloudEvent],
        touched: &AtomicBool,
    ) -> Result<Outcome, Trouble> {
        let mut kept = self.session.lock().await;
        // Where an earlier attempt may have been, its end comes first.
        let stands = |s: &Session| s.cluster.stands() && !part.uncertain;
        let mut session = match kept.take().filter(stands) {
            Some(session) => session,
            None => self.open().await?,
        };
        let places = places_of(events, session.cluster.partitions());
        if part.uncertain && session.transactions.is_some() {
            let there = self.committed(&mut session.cluster, part, &places).await?;
            if !there.is_empty() {
                *kept = Some(session);
                return Ok(found(events, &there));
            }
        }
        let sent = match session.transactions.as_mut() {
            Some(open) => {
                let partitions: BTreeSet<i32> = places.keys().copied().collect();
                open.enter(&mut session.cluster, &self.settings, &partitions).await?;
                let sender = Sender::new(&self.settings, part, events, places);
                let sent = sender.send(&mut session, None).await?;
                self.end(&mut session, &sent, touched).await?;
                sent
            }
            None => {
                let sender = Sender::new(&self.settings, part, events, places);
                sender.send(&mut session, Some(touched)).await?
            }
        };
        *kept = Some(session);
        Ok(sent.outcome())
    }

    async fn open(&self) -> Result<Session, Trouble> {
        let mut cluster = Cluster::open(&self.settings).await?;
        let transactions = match &self.transactional_id {
            Some(id) => Some(Transactions::begin(&mut cluster, &self.settings, id).await?),
            None => None,
        };
        Ok(Session { cluster, transactions })
    }

    /// The ids of a part's events that an earlier attempt has committed.
    async fn committed(
        &self,
        cluster: &mut Cluster,
        part: &Part,
        places: &Places,
    ) -> Result<HashSet<Bytes>, Trouble> {
        let mut all = HashSet::new();
        for partition in places.keys() {
            all.extend(committed(cluster, &self.settings, *partition, &part.id).await?);
        }
        Ok(all)
    }

    /// Commits what was sent; from then on nobody knows until the answer is there.
    async fn end(
        &self,
        session: &mut Session,
        sent: &Sent,
        touched: &AtomicBool,
    ) -> Result<(), Trouble> {
        let Some(open) = &session.transactions else { return Ok(()) };
        let commit = sent.stored > 0;
        touched.store(commit, Ordering::Relaxed);
        open.end(&mut session.cluster, &self.settings, commit).await
    }
}

/// Which partition each event goes to.
fn places_of(events: &[CloudEvent], partitions: usize) -> Places {
    let mut places = Places::new();
    for (at, event) in events.iter().enumerate() {
        let partition = records::partition_of(&event.subject, partitions);
        places.entry(i32::try_from(partition).unwrap_or(0)).or_default().push(at);
    }
    places
}

/// An earlier attempt was committed: what is not there it was refused.
fn found(events: &[CloudEvent], there: &HashSet<Bytes>) -> Outcome {
    let missing = events.iter().filter(|event| !there.contains(event.id.as_bytes()));
    let rejected = missing.map(|event| Rejected {
        line_id: event.id.clone(),
        reason: "an earlier attempt committed the others of the batch and not this one".into(),
    });
    Outcome::Done { status: 200, rejected: rejected.collect() }
}

impl Partner for KafkaPartner {
    fn send<'a>(&'a self, part: &'a Part) -> Sending<'a> {
        Box::pin(self.attempt(part))
    }
}
