//! The brokers of a cluster as far as one topic needs them: which leads which partition, and a connection
//! to each that is used. Whoever has trouble with one drops all, and begins anew.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::{Duration, Instant},
};

use super::{
    Settings,
    connection::{Api, Connection},
    trouble::Trouble,
    wire::{Reader, Writer},
};

/// After so long the leaders are asked for anew, which also finds new partitions.
const TOPOLOGY_AGE_MAX: Duration = Duration::from_secs(300);
/// Brokers close connections that were idle for ten minutes, balancers before them earlier.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// The most partitions of a topic.
const PARTITIONS_MAX: usize = 100_000;

/// What metadata say of a topic.
struct Topology {
    brokers: BTreeMap<i32, (String, u16)>,
    /// The leader of each partition.
    leaders: Vec<i32>,
}

/// See the module.
pub(super) struct Cluster {
    topology: Topology,
    born: Instant,
    connections: BTreeMap<i32, Connection>,
}

impl Cluster {
    /// Asks the first broker that answers.
    pub async fn open(settings: &Settings) -> Result<Self, Trouble> {
        let mut last = Trouble::Broken("no broker is configured".into());
        // Each has its share of the time: one that hangs must not hide those behind it.
        let patience = settings.timeout / u32::try_from(settings.brokers.len() + 1).unwrap_or(1);
        for (host, port) in &settings.brokers {
            let asked = tokio::time::timeout(patience, ask(host, *port, settings));
            match asked.await {
                Ok(Ok(topology)) => {
                    let (born, connections) = (Instant::now(), BTreeMap::new());
                    return Ok(Self { topology, born, connections });
                }
                Ok(Err(trouble)) => last = trouble,
                Err(_) => {
                    let told = format!(
                        "no answer from the broker {host}:{port} within {} ms",
                        patience.as_millis()
                    );
                    last = Trouble::Broken(told);
                }
            }
        }
        Err(last)
    }

    /// Whether it can still be used.
    pub fn stands(&self) -> bool {
        let idle = |connection: &Connection| connection.used.elapsed() > IDLE_MAX;
        self.born.elapsed() < TOPOLOGY_AGE_MAX && !self.connections.values().any(idle)
    }

    /// How many partitions the topic has, at least one.
    pub fn partitions(&self) -> usize {
        self.topology.leaders.len()
    }

    /// The broker that leads a partition.
    pub fn leader(&self, partition: i32) -> i32 {
        let at = usize::try_from(partition).unwrap_or(0);
        self.topology.leaders.get(at).copied().unwrap_or(-1)
    }

    /// The broker at an address that another one named.
    pub fn know(&mut self, node: i32, host: String, port: u16) {
        self.topology.brokers.entry(node).or_insert((host, port));
    }

    /// Asks a broker.
    pub async fn call(
        &mut self,
        node: i32,
        api: Api,
        body: &Writer,
        settings: &Settings,
    ) -> Result<Reader, Trouble> {
        self.connection(node, settings).await?.call(api, body).await
    }

    /// Whether a broker knows a request in the version spoken here.
    pub async fn speaks(
        &mut self,
        node: i32,
        api: Api,
        settings: &Settings,
    ) -> Result<bool, Trouble> {
        Ok(self.connection(node, settings).await?.speaks(api))
    }

    async fn connection(
        &mut self,
        node: i32,
        settings: &Settings,
    ) -> Result<&mut Connection, Trouble> {
        match self.connections.entry(node) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(place) => {
                let (host, port) = self.topology.brokers.get(&node).ok_or_else(|| {
                    Trouble::Broken(format!("no broker {node} is there: a leader is away"))
                })?;
                Ok(place.insert(Connection::open(host, *port, &settings.access).await?))
            }
        }
    }

    /// Any broker.
    pub fn any(&self) -> i32 {
        self.topology.brokers.keys().next().copied().unwrap_or(-1)
    }
}

/// Asks one broker for the topic.
async fn ask(host: &str, port: u16, settings: &Settings) -> Result<Topology, Trouble> {
    let mut connection = Connection::open(host, port, &settings.access).await?;
    let mut body = Writer::default();
    body.len(1).text(&settings.topic);
    let new = connection.speaks(Api::METADATA);
    let api = if new { Api::METADATA } else { Api::METADATA_OLD };
    if new {
        // A topic that is not there is not to be made.
        body.i8(0);
    }
    let answer = connection.call(api, &body).await?;
    read(answer, new, &settings.topic)
}

fn read(mut answer: Reader, new: bool, topic: &str) -> Result<Topology, Trouble> {
    if new {
        answer.i32()?;
    }
    let brokers = answer.array(|r| {
        let (node, host, port) = (r.i32()?, r.text()?, r.i32()?);
        r.text()?;
        Ok((node, (host, u16::try_from(port).unwrap_or(0))))
    })?;
    if new {
        answer.text()?;
    }
    answer.i32()?;
    let topics = answer.array(|r| {
        let (code, name) = (r.i16()?, r.text()?);
        r.i8()?;
        let partitions = r.array(|r| {
            let (_, partition, leader) = (r.i16()?, r.i32()?, r.i32()?);
            r.array(Reader::i32)?;
            r.array(Reader::i32)?;
            Ok((partition, leader))
        })?;
        Ok((code, name, partitions))
    })?;
    let found = topics.into_iter().find(|(_, name, _)| name == topic);
    let (code, _, mut partitions) = found.ok_or(Trouble::Unreadable("it leaves the topic out"))?;
    Trouble::unless_none("Metadata", format!(" for the topic `{topic}`"), code)?;
    partitions.sort_unstable();
    // A key's partition depends on how many there are: none may be missing.
    let whole = partitions.iter().zip(0..).all(|((partition, _), n)| *partition == n);
    if !whole || partitions.is_empty() || partitions.len() > PARTITIONS_MAX {
        return Err(Trouble::Unreadable("the partitions of the topic are not whole"));
    }
    let leaders = partitions.into_iter().map(|(_, leader)| leader).collect();
    Ok(Topology { brokers: brokers.into_iter().collect(), leaders })
}
