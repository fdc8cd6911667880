//! One connection to a broker: TCP, TLS where the URL says so, who we are, and then one request after the
//! other. An answer that does not come in time leaves the connection unusable; whoever waits drops it.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use bytes::{BufMut, Bytes, BytesMut};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{
    identity::Identity,
    trouble::Trouble,
    wire::{Reader, Writer},
};

/// The most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;
const CLIENT_ID: &str = "holdfast";

/// A kind of request, in the version that is spoken here: the oldest that Kafka 4 knows and does what is
/// wanted, so that every broker since Kafka 1.0 knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Api {
    pub name: &'static str,
    key: i16,
    version: i16,
    /// Whether the version has Kafka's newer encoding: short lengths, and fields with tags.
    flexible: bool,
}

impl Api {
    const fn plain(name: &'static str, key: i16, version: i16) -> Self {
        Self { name, key, version, flexible: false }
    }

    pub const PRODUCE: Self = Self::plain("Produce", 0, 3);
    pub const FETCH: Self = Self::plain("Fetch", 1, 4);
    pub const LIST_OFFSETS: Self = Self::plain("ListOffsets", 2, 1);
    pub const METADATA: Self = Self::plain("Metadata", 3, 4);
    /// It can't say that a topic is not to be made.
    pub const METADATA_OLD: Self = Self::plain("Metadata", 3, 1);
    pub const FIND_COORDINATOR: Self = Self::plain("FindCoordinator", 10, 1);
    pub const SASL_HANDSHAKE: Self = Self::plain("SaslHandshake", 17, 1);
    const VERSIONS: Self = Self::plain("ApiVersions", 18, 0);
    /// Since Kafka 2.5.
    pub const INIT_PRODUCER_ID: Self =
        Self { name: "InitProducerId", key: 22, version: 3, flexible: true };
    pub const INIT_PRODUCER_ID_OLD: Self = Self::plain("InitProducerId", 22, 0);
    pub const ADD_PARTITIONS: Self = Self::plain("AddPartitionsToTxn", 24, 0);
    pub const END_TRANSACTION: Self = Self::plain("EndTxn", 26, 0);
    pub const SASL_AUTHENTICATE: Self = Self::plain("SaslAuthenticate", 36, 0);
}

/// How a broker is reached, and who we are to it.
pub(super) struct Access {
    pub tls: Option<Arc<ClientConfig>>,
    pub identity: Identity,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// See the module.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    correlation: i32,
    /// The least and the highest version of each kind of request.
    versions: BTreeMap<i16, (i16, i16)>,
    pub used: Instant,
}

impl Connection {
    /// Connects to `host:port`, and says who we are.
    pub async fn open(host: &str, port: u16, access: &Access) -> Result<Self, Trouble> {
        let broken = |e: std::io::Error| {
            Trouble::Broken(format!("no connection to the broker {host}:{port}: {e}"))
        };
        let tcp = TcpStream::connect((host, port)).await.map_err(broken)?;
        tcp.set_nodelay(true).map_err(broken)?;
        let stream: Box<dyn Stream> = match &access.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from(host.to_owned())
                    .map_err(|_| Trouble::Broken(format!("{host} can't stand in a certificate")))?;
                let tls = TlsConnector::from(config.clone()).connect(name, tcp);
                Box::new(tls.await.map_err(broken)?)
            }
        };
        let (versions, used) = (BTreeMap::new(), Instant::now());
        let mut connection = Self { stream, correlation: 0, versions, used };
        connection.learn_versions().await?;
        access.identity.show(&mut connection).await?;
        Ok(connection)
    }

    async fn learn_versions(&mut self) -> Result<(), Trouble> {
        self.write(Api::VERSIONS, &Writer::default()).await?;
        let mut answer = self.read(Api::VERSIONS).await?;
        Trouble::unless_none("ApiVersions", String::new(), answer.i16()?)?;
        let all = answer.array(|r| Ok((r.i16()?, (r.i16()?, r.i16()?))))?;
        self.versions = all.into_iter().collect();
        Ok(())
    }

    /// Whether the broker knows a request in the version spoken here.
    pub fn speaks(&self, api: Api) -> bool {
        let known = self.versions.get(&api.key);
        known.is_some_and(|(least, most)| (*least..=*most).contains(&api.version))
    }

    /// Sends a request and waits for the answer to it.
    pub async fn call(&mut self, api: Api, body: &Writer) -> Result<Reader, Trouble> {
        if !self.speaks(api) {
            return Err(Trouble::Version { api: api.name, version: api.version });
        }
        self.write(api, body).await?;
        self.read(api).await
    }

    async fn write(&mut self, api: Api, body: &Writer) -> Result<(), Trouble> {
        self.correlation = self.correlation.wrapping_add(1);
        let mut head = Writer::default();
        head.i16(api.key).i16(api.version).i32(self.correlation).text(CLIENT_ID);
        if api.flexible {
            head.no_tags();
        }
        let mut frame = BytesMut::with_capacity(4 + head.0.len() + body.0.len());
        let len = i32::try_from(head.0.len() + body.0.len());
        frame.put_i32(len.map_err(|_| Trouble::Broken("the request is too large".into()))?);
        frame.extend_from_slice(&head.0);
        frame.extend_from_slice(&body.0);
        let written = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await
        };
        written.await.map_err(|e| broke(api, &e))
    }

    async fn read(&mut self, api: Api) -> Result<Reader, Trouble> {
        let len = self.stream.read_i32().await.map_err(|e| broke(api, &e))?;
        let len = usize::try_from(len).ok().filter(|len| (4..=ANSWER_BYTES_MAX).contains(len));
        let len = len.ok_or(Trouble::Unreadable("its length is impossible"))?;
        // Memory grows with what arrives, not with what is announced.
        let mut frame = Vec::new();
        let mut left = (&mut self.stream).take(len as u64);
        left.read_to_end(&mut frame).await.map_err(|e| broke(api, &e))?;
        if frame.len() < len {
            return Err(broke(api, &std::io::ErrorKind::UnexpectedEof.into()));
        }
        let mut answer = Reader(Bytes::from(frame));
        if answer.i32()? != self.correlation {
            return Err(Trouble::Unreadable("it answers something else"));
        }
        if api.flexible {
            answer.tags()?;
        }
        self.used = Instant::now();
        Ok(answer)
    }
}

fn broke(api: Api, error: &std::io::Error) -> Trouble {
    Trouble::Broken(format!(
        "the connection broke before the broker answered {}: {error}",
        api.name
    ))
}
