//! What the subcommands have in common: the scenario, what of it is changed, and what it is aimed at.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use holdfast::client::Address;

use super::Error;
use crate::{
    peer,
    scenario::{Ack, Scenario},
    trial::{Place, Protocol, Setup},
};

/// What stands for the engine in this process where a URL is expected.
const IN_PROCESS: &str = "in-process";

/// The scenario, and what it is aimed at.
#[derive(Debug, Args)]
pub(super) struct Aim {
    /// A ready scenario's name, or a file.
    scenario: String,
    /// A server that runs already, as http://HOST:PORT; `in-process` for the engine alone; `redis` or
    /// `postgres` for a peer that is started for it; without it the tester starts a server of its own.
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// How the server is spoken to.
    #[arg(long, value_enum, default_value_t = Speech::Http1)]
    protocol: Speech,
    /// Where the gateway of a running server listens, for the binary protocol: HOST:PORT, or the path of a
    /// Unix socket with a `/` in it.
    #[arg(long, value_name = "ADDRESS", requires = "target")]
    gateway: Option<Address>,
    /// The variable of the environment that holds the API key, if the server wants one.
    #[arg(long, value_name = "NAME")]
    api_key_env: Option<String>,
    /// The binary of the tester's own server; without it `holdfast` beside this program.
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    server: Option<PathBuf>,
    /// The folder that the data of the tester's own server goes into; without it the system's for what
    /// is temporary, which may be no disk.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// When the tester's own server answers.
    #[arg(long, value_enum)]
    ack: Option<AckLevel>,
    /// What the plan is made from, instead of the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// Connections, instead of the scenario's.
    #[arg(long)]
    connections: Option<u32>,
    /// Sending threads, instead of the scenario's.
    #[arg(long)]
    senders: Option<u32>,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Speech {
    /// HTTP/1.1, a request a connection at a time.
    Http1,
    /// HTTP/2 without TLS, by prior knowledge.
    Http2,
    /// The batch route over HTTP/1.1.
    Batch,
    /// The binary protocol of gateways.
    Binary,
}

/// When a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AckLevel {
    /// After the sync.
    Disk,
    /// As soon as it would survive a killed process.
    Memory,
}

impl Aim {
    /// The setup that is meant.
    pub fn setup(self) -> Result<Setup, Error> {
        let mut scenario = Scenario::find(&self.scenario)?;
        if let Some(seed) = self.seed {
            scenario.seed = seed;
        }
        if let Some(ack) = self.ack {
            scenario.server.ack = match ack {
                AckLevel::Disk => Ack::Disk,
                AckLevel::Memory => Ack::Memory,
            };
        }
        let sending = &mut scenario.sending;
        sending.connections = self.connections.unwrap_or(sending.connections);
        sending.senders = self.senders.unwrap_or(sending.senders);
        if !(1..=64).contains(&sending.senders) {
            return Err(Error::Usage("--senders must be 1 to 64".to_owned()));
        }
        if !(sending.senders..=20_000).contains(&sending.connections) {
            let said = "--connections must be 1 to 20,000, and at least as many as senders";
            return Err(Error::Usage(said.to_owned()));
        }
        let api_key = self.api_key_env.map(api_key).transpose()?;
        let place = match self.target {
            Some(target) if target == IN_PROCESS => Place::InProcess { data: self.data },
            Some(target) if target == "redis" => {
                Place::Peer { kind: peer::Kind::Redis, data: self.data }
            }
            Some(target) if target == "postgres" => {
                Place::Peer { kind: peer::Kind::Postgres, data: self.data }
            }
            Some(url) => match (self.protocol, self.gateway) {
                (Speech::Binary, Some(gateway)) => Place::Gateway { url, gateway, api_key },
                (_, None) => Place::Url { url, api_key },
                (_, Some(_)) => {
                    let said = "--gateway is for --protocol binary";
                    return Err(Error::Usage(said.to_owned()));
                }
            },
            None => Place::Own { binary: self.server, data: self.data },
        };
        let protocol = match self.protocol {
            Speech::Http1 => Protocol::Http1,
            Speech::Http2 => Protocol::Http2,
            Speech::Batch => Protocol::Batch,
            Speech::Binary => Protocol::Binary,
        };
        Ok(Setup { scenario, place, protocol })
    }
}

pub(super) fn api_key(name: String) -> Result<String, Error> {
    std::env::var(&name)
        .map_err(|_| Error::Usage(format!("--api-key-env: the environment has no `{name}`")))
}
