//! A Holdfast server of the tester's own: the `holdfast` binary as a child process, in a folder that goes
//! with it, with receivers behind it that live in the tester.
//!
//! It is a process of its own so that its threads, its memory and its allocator are what they are in
//! production, and so that the tester's are not mistaken for them.

mod config;

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use holdfast::sinks::receiver::{Behaviour, Receiver, Totals};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinHandle};

use crate::{
    plan::Plan,
    scenario::{Domain, ReceiverSpec, Scenario},
};

/// How long a server may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a process that is to end.
const GLANCE: Duration = Duration::from_millis(20);
/// How much is told of what a server said before it ended.
const TOLD_BYTES: u64 = 2_000;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary is not there.
    #[error(
        "there is no `holdfast` beside this program ({}): build it with `cargo build --release`, name \
         one with --server, or test a server that runs already with --target", path.display()
    )]
    NoBinary {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended, or did not say where it listens.
    #[error("the server did not {what}: {said}")]
    Server {
        /// What it should have done.
        what: &'static str,
        /// What it said.
        said: String,
    },
    /// The configuration in the scenario can't be written.
    #[error("`server.config`: {0}")]
    Config(#[from] toml::ser::Error),
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// The server binary: the one that is named, else `holdfast` beside this program.
///
/// # Errors
/// If it is not there.
pub fn binary(named: Option<&Path>) -> Result<PathBuf, Error> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => {
            let this = std::env::current_exe().map_err(io("looking for this program's folder"))?;
            this.with_file_name("holdfast")
        }
    };
    if path.is_file() { Ok(path) } else { Err(Error::NoBinary { path }) }
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it can be reached.
    pub url: String,
    child: Child,
    receivers: Vec<(ReceiverSpec, Arc<Receiver>)>,
    outages: Vec<JoinHandle<()>>,
    runtime: Runtime,
    /// Goes when nothing uses it any more.
    folder: Folder,
}

/// The folder of a server: its configuration, its log, what it said.
#[derive(Debug, Clone)]
struct Folder(Arc<TempDir>);

impl Folder {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Short: the path of a socket has 107 bytes at most.
    fn gateway(&self) -> PathBuf {
        self.path().join("gw")
    }
}

impl Server {
    /// Starts one for a plan, in a folder in `data` (else the system's for what is temporary).
    ///
    /// # Errors
    /// If the system refuses, or the server does not come up.
    pub fn start(
        binary: &Path,
        scenario: &Scenario,
        plan: &Plan,
        data: Option<&Path>,
    ) -> Result<Self, Error> {
        let made = match data {
            Some(data) => TempDir::with_prefix_in("loadtest-", data),
            None => TempDir::with_prefix("loadtest-"),
        };
        let folder = Folder(Arc::new(made.map_err(io("making a folder for the server"))?));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("receivers")
            .enable_all()
            .build()
            .map_err(io("starting the receivers"))?;
        let mut receivers = Vec::new();
        for spec in &scenario.receivers {
            let receiver = runtime.block_on(Receiver::start(behaviour(spec)));
            let receiver = Arc::new(receiver.map_err(io("starting a receiver"))?);
            receivers.push((spec.clone(), receiver));
        }
        let urls = receivers.iter().map(|(_, receiver)| receiver.url());
        let config = config::config(scenario, plan, (&folder.data(), &folder.gateway()), urls);
        let file = folder.path().join("holdfast.toml");
        std::fs::write(&file, toml::to_string(&config)?)
            .map_err(io(format!("writing {}", file.display())))?;
        let (child, url) = spawn(binary, &file, folder.path())?;
        Ok(Self { url, child, receivers, outages: Vec::new(), runtime, folder })
    }

    /// The Unix socket of its gateway.
    pub fn gateway(&self) -> PathBuf {
        self.folder.gateway()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Begins the time that the receivers' outages count from.
    pub fn begin_outages(&mut self) {
        let begin = tokio::time::Instant::now();
        for (spec, receiver) in &self.receivers {
            for outage in &spec.outages {
                let down = begin + Duration::from_secs_f64(outage.at_s);
                let up = down + Duration::from_secs_f64(outage.for_s);
                let receiver = receiver.clone();
                self.outages.push(self.runtime.spawn(async move {
                    tokio::time::sleep_until(down).await;
                    receiver.behave(|behaviour| behaviour.outage = true);
                    tokio::time::sleep_until(up).await;
                    receiver.behave(|behaviour| behaviour.outage = false);
                }));
            }
        }
    }

    /// Ends all outages.
    pub fn end_outages(&mut self) {
        self.outages.drain(..).for_each(|outage| outage.abort());
        for (_, receiver) in &self.receivers {
            receiver.behave(|behaviour| behaviour.outage = false);
        }
    }

    /// What the receivers of a domain were told so far, each with its name.
    pub fn received(&self, domain: Domain) -> Vec<(String, Totals)> {
        let of = self.receivers.iter().filter(|(spec, _)| spec.domain == domain);
        of.map(|(spec, receiver)| (spec.name.clone(), receiver.totals())).collect()
    }

    /// Has it stop in order, and leaves its folder to be looked at.
    ///
    /// # Errors
    /// If it does not stop, or says that something went wrong.
    pub fn stop(mut self) -> Result<Stopped, Error> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // One that has ended already is found below.
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            match self.child.try_wait().map_err(io("waiting for the server"))? {
                Some(status) if status.success() => return Ok(Stopped(self.folder.clone())),
                Some(status) => {
                    let said = format!("{status}; {}", said(self.folder.path()));
                    return Err(Error::Server { what: "stop in order", said });
                }
                None => thread::sleep(GLANCE),
            }
        }
        Err(Error::Server { what: "stop in time", said: said(self.folder.path()) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended can't be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that has stopped in order.
#[derive(Debug)]
pub struct Stopped(Folder);

impl Stopped {
    /// Where its log is.
    pub fn data(&self) -> PathBuf {
        self.0.data()
    }
}

fn behaviour(spec: &ReceiverSpec) -> Behaviour {
    Behaviour {
        rate_per_s: spec.rate_per_s,
        latency: Duration::from_millis(spec.latency_ms),
        ..Behaviour::default()
    }
}

/// Starts the process, and waits until it says where it listens.
fn spawn(binary: &Path, config: &Path, folder: &Path) -> Result<(Child, String), Error> {
    let errors = std::fs::File::create(folder.join("stderr")).map_err(io("making a file"))?;
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        // What is set for another server is not meant for this one.
        if name.to_string_lossy().starts_with("HOLDFAST") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .arg("serve")
        .arg("--config")
        .arg(config)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(io(format!("starting {}", binary.display())))?;
    let url = child.stdout.take().and_then(address);
    match url {
        Some(url) => Ok((child, url)),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            Err(Error::Server { what: "come up", said: said(folder) })
        }
    }
}

/// What a server says of where it listens; `None` if it says nothing in time.
fn address(out: impl Read + Send + 'static) -> Option<String> {
    let (send, lines) = mpsc::channel();
    // Read to the end, so that the server never waits for a reader.
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    let end = Instant::now() + PATIENCE;
    loop {
        let line = lines.recv_timeout(end.saturating_duration_since(Instant::now())).ok()?;
        let url = line.strip_prefix("listening on ").and_then(|rest| rest.split(' ').next());
        if let Some(url) = url {
            return Some(url.to_owned());
        }
    }
}

/// The end of what a server said on its standard error.
fn said(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("stderr")).unwrap_or_default();
    let from = text.len().saturating_sub(TOLD_BYTES as usize);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    if text.is_empty() { "it said nothing".to_owned() } else { text[from..].trim().to_owned() }
}

#[cfg(test)]
mod tests;
