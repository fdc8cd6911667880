//! The transactions of one transactional id. Whoever begins as it ends what another one had begun: a
//! transaction that was not told to commit is then aborted, one that was is committed, and nothing that the
//! other one sent comes later. So afterwards it can be looked up what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Settings,
    cluster::Cluster,
    connection::Api,
    records::{Author, Search},
    trouble::Trouble,
    wire::{Reader, Writer},
};

/// The wait before what passes is asked again.
const WAIT: Duration = Duration::from_millis(10);
const WAIT_MAX: Duration = Duration::from_millis(200);
/// How long a broker keeps an abandoned transaction open at most (its own default for the most).
const OPEN_MS_MAX: u64 = 900_000;
const OPEN_MS_MIN: u64 = 10_000;
/// The most bytes that are fetched at a time.
const FETCH_BYTES_MAX: i32 = 1 << 20;
/// How long a broker may look for what is there.
const FETCH_WAIT_MS: i32 = 500;
/// Times that stand for the first and for the next offset of a partition.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// See the module.
pub(super) struct Transactions {
    id: String,
    coordinator: i32,
    producer_id: i64,
    epoch: i16,
    /// The number of the next record of each partition.
    sequences: BTreeMap<i32, i32>,
}

impl Transactions {
    /// Takes the transactional id over.
    pub async fn begin(
        cluster: &mut Cluster,
        settings: &Settings,
        id: &str,
    ) -> Result<Self, Trouble> {
        let mut patience = Patience::new(settings);
        loop {
            match Self::take_over(cluster, settings, id).await {
                Err(trouble) => patience.bear(trouble).await?,
                taken => return taken,
            }
        }
    }

    async fn take_over(
        cluster: &mut Cluster,
        settings: &Settings,
        id: &str,
    ) -> Result<Self, Trouble> {
        let mut body = Writer::default();
        body.text(id).i8(1);
        let mut answer =
            cluster.call(cluster.any(), Api::FIND_COORDINATOR, &body, settings).await?;
        answer.i32()?;
        let code = answer.i16()?;
        answer.text()?;
        Trouble::unless_none("FindCoordinator", format!(" of the transactional id `{id}`"), code)?;
        let (coordinator, host, port) = (answer.i32()?, answer.text()?, answer.i32()?);
        cluster.know(coordinator, host, u16::try_from(port).unwrap_or(0));

        let open_ms = settings.timeout.as_millis().saturating_mul(2);
        let open_ms = u64::try_from(open_ms).unwrap_or(u64::MAX).clamp(OPEN_MS_MIN, OPEN_MS_MAX);
        let open_ms = i32::try_from(open_ms).unwrap_or(i32::MAX);
        let mut body = Writer::default();
        let api = match cluster.speaks(coordinator, Api::INIT_PRODUCER_ID, settings).await? {
            true => {
                // Whatever producer we were before.
                body.short_text(id).i32(open_ms).i64(-1).i16(-1).no_tags();
                Api::INIT_PRODUCER_ID
            }
            false => {
                body.text(id).i32(open_ms);
                Api::INIT_PRODUCER_ID_OLD
            }
        };
        let mut answer = cluster.call(coordinator, api, &body, settings).await?;
        answer.i32()?;
        Trouble::unless_none("InitProducerId", format!(" as `{id}`"), answer.i16()?)?;
        let (producer_id, epoch) = (answer.i64()?, answer.i16()?);
        let (id, sequences) = (id.to_owned(), BTreeMap::new());
        Ok(Self { id, coordinator, producer_id, epoch, sequences })
    }

    /// As whom they are made.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Who writes the next batch of a partition.
    pub fn author(&self, partition: i32) -> Author {
        let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
        Author { producer_id: self.producer_id, epoch: self.epoch, sequence }
    }

    /// So many records of a partition are there.
    pub fn written(&mut self, partition: i32, records: usize) {
        let next = self.sequences.entry(partition).or_insert(0);
        let records = i32::try_from(records).unwrap_or(0);
        // Behind the last number comes 0.
        *next = next.wrapping_add(records) & i32::MAX;
    }

    /// Begins a transaction in these partitions.
    pub async fn enter(
        &self,
        cluster: &mut Cluster,
        settings: &Settings,
        partitions: &BTreeSet<i32>,
    ) -> Result<(), Trouble> {
        let mut body = Writer::default();
        body.text(&self.id).i64(self.producer_id).i16(self.epoch);
        body.len(1).text(&settings.topic).len(partitions.len());
        for partition in partitions {
            body.i32(*partition);
        }
        let mut patience = Patience::new(settings);
        loop {
            let asked = cluster.call(self.coordinator, Api::ADD_PARTITIONS, &body, settings).await;
            match asked.and_then(|answer| entered(answer, &settings.topic)) {
                // The markers of the transaction before it are still being written.
                Err(trouble) => patience.bear(trouble).await?,
                entered => return entered,
            }
        }
    }

    /// Ends the transaction.
    pub async fn end(
        &self,
        cluster: &mut Cluster,
        settings: &Settings,
        commit: bool,
    ) -> Result<(), Trouble> {
        let mut body = Writer::default();
        body.text(&self.id).i64(self.producer_id).i16(self.epoch).i8(i8::from(commit));
        let mut patience = Patience::new(settings);
        loop {
            let mut answer =
                cluster.call(self.coordinator, Api::END_TRANSACTION, &body, settings).await?;
            answer.i32()?;
            match Trouble::unless_none("EndTxn", String::new(), answer.i16()?) {
                Err(trouble) => patience.bear(trouble).await?,
                ended => return ended,
            }
        }
    }
}

/// Waits for what passes, a little longer each time; not until the attempt's end, so that it is still told
/// what was waited for.
struct Patience {
    ends: Instant,
    wait: Duration,
}

impl Patience {
    fn new(settings: &Settings) -> Self {
        Self { ends: Instant::now() + settings.timeout / 2, wait: WAIT }
    }

    async fn bear(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        if !trouble.passes() || Instant::now() >= self.ends {
            return Err(trouble);
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(WAIT_MAX);
        Ok(())
    }
}

fn entered(mut answer: Reader, topic: &str) -> Result<(), Trouble> {
    answer.i32()?;
    let topics = answer.array(|r| {
        r.text()?;
        r.array(|r| Ok((r.i32()?, r.i16()?)))
    })?;
    for (partition, code) in topics.into_iter().flatten() {
        Trouble::unless_none("AddPartitionsToTxn", place(topic, partition), code)?;
    }
    Ok(())
}

/// How an error names a partition.
pub(super) fn place(topic: &str, partition: i32) -> String {
    format!(" for partition {partition} of the topic `{topic}`")
}

/// The ids of a part's events that are committed in a partition, as far as its last
/// `settings.lookback_records` tell.
pub(super) async fn committed(
    cluster: &mut Cluster,
    settings: &Settings,
    partition: i32,
    id: &str,
) -> Result<Vec<Bytes>, Trouble> {
    let end = offset(cluster, settings, partition, LATEST).await?;
    let first = offset(cluster, settings, partition, EARLIEST).await?;
    let mut at = end.saturating_sub(settings.lookback_records).max(first);
    let mut search = Search::new(id);
    // All of a part are committed by one marker.
    while at < end && search.found.is_empty() {
        let fetched = fetch(cluster, settings, partition, at).await?;
        match search.look_at(fetched)? {
            Some(next) if next > at => at = next,
            _ => return Err(Trouble::Unreadable("it gives no records where some should stand")),
        }
    }
    Ok(search.found)
}

async fn offset(
    cluster: &mut Cluster,
    settings: &Settings,
    partition: i32,
    time: i64,
) -> Result<i64, Trouble> {
    let mut body = Writer::default();
    body.i32(-1).len(1).text(&settings.topic).len(1).i32(partition).i64(time);
    let leader = cluster.leader(partition);
    let mut answer = cluster.call(leader, Api::LIST_OFFSETS, &body, settings).await?;
    let topics = answer.array(|r| {
        r.text()?;
        r.array(|r| Ok((r.i32()?, r.i16()?, r.i64()?, r.i64()?)))
    })?;
    let (_, code, _, offset) = one(topics)?;
    Trouble::unless_none("ListOffsets", place(&settings.topic, partition), code)?;
    Ok(offset)
}

async fn fetch(
    cluster: &mut Cluster,
    settings: &Settings,
    partition: i32,
    at: i64,
) -> Result<Reader, Trouble> {
    let mut body = Writer::default();
    // What is not committed as well: the markers behind it tell. There is something, so nobody waits.
    body.i32(-1).i32(FETCH_WAIT_MS).i32(1).i32(FETCH_BYTES_MAX).i8(0);
    body.len(1).text(&settings.topic).len(1).i32(partition).i64(at).i32(FETCH_BYTES_MAX);
    let leader = cluster.leader(partition);
    let mut answer = cluster.call(leader, Api::FETCH, &body, settings).await?;
    answer.i32()?;
    let topics = answer.array(|r| {
        r.text()?;
        r.array(|r| {
            let (_, code) = (r.i32()?, r.i16()?);
            r.i64()?;
            r.i64()?;
            r.array(|r| Ok((r.i64()?, r.i64()?)))?;
            Ok((code, r.bytes()?))
        })
    })?;
    let (code, records) = one(topics)?;
    Trouble::unless_none("Fetch", place(&settings.topic, partition), code)?;
    Ok(Reader(records))
}

/// The answer for the one partition that was asked for.
fn one<T>(topics: Vec<Vec<T>>) -> Result<T, Trouble> {
    topics.into_iter().flatten().next().ok_or(Trouble::Unreadable("it leaves the partition out"))
}
