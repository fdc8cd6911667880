//! The real binary, as the tests of the command line use it.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long the server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, without whatever the caller's environment sets for it.
pub fn holdfast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HOLDFAST") {
            command.env_remove(name);
        }
    }
    command.env("RUST_LOG", "warn");
    // Small segments start fast and are often turned.
    command.env("HOLDFAST__LOG__SEGMENT_BYTES", "1 MiB");
    command.env("HOLDFAST__LOG__BUDGET_BYTES", "256 MiB");
    command
}

/// Runs it to its end.
pub fn run(command: &mut Command) -> Ended {
    Ended::of(command.output().expect("the binary runs"))
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// How a process that is over ended.
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Must have ended with this code.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        self
    }
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    /// A command of `holdfast config`.
    pub fn config(&self, words: &[&str]) -> Ended {
        run(holdfast().arg("config").args(words).args(["--url", &self.url]))
    }

    /// Has it take the configuration of a file.
    pub fn reload(&self, file: &Path, more: &[&str]) -> Ended {
        let words = ["reload", "--reason", "a test", "--file", file.to_str().unwrap()];
        self.config(&[&words[..], more].concat())
    }

    /// The configurations that it had.
    pub fn versions(&self) -> Vec<serde_json::Value> {
        let said = get(&format!("{}/v1/configuration/history", self.url));
        said["versions"].as_array().unwrap().clone()
    }

    /// Starts one on a free port and waits until it serves.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &mut holdfast())
    }

    /// The same with a command that may have further arguments or variables.
    pub fn start_with(data: &Path, command: &mut Command) -> Self {
        Self::spawn(command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data))
    }

    /// Starts what the command says, and waits until it serves.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let out = child.stdout.take().expect("its output is piped");
        let (send, lines) = mpsc::channel();
        // Read to the end, so that the server never waits for a reader.
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let line = lines.recv_timeout(PATIENCE);
        let mut server = Self { child, url: String::new() };
        let line =
            line.unwrap_or_else(|e| panic!("no address: {e}, {:?}", server.child.try_wait()));
        let url = line.strip_prefix("listening on ").and_then(|rest| rest.split(' ').next());
        server.url = url.unwrap_or_else(|| panic!("no address in `{line}`")).to_owned();
        server
    }

    /// SIGKILL, as from an out-of-memory killer.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM, and waits.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        // A shell's own `kill` is there on every system.
        let command = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &command]).status().expect("a shell");
        assert!(sent.success());
    }

    fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("its end can be seen") {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that keeps its connections.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .build()
        .expect("a client")
}

/// A runtime for tests that speak HTTP.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// The JSON at an address.
pub fn get(url: &str) -> serde_json::Value {
    runtime().block_on(async {
        let text = client().get(url).send().await.expect("an answer").text().await.expect("a body");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{url}: {e}: {text}"))
    })
}

/// Posts JSON under a key; the status and the JSON that came.
pub fn post(url: &str, key: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
    runtime().block_on(async {
        let answer = client()
            .post(url)
            .header("idempotency-key", key)
            .json(body)
            .send()
            .await
            .expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json().await.expect("JSON"))
    })
}
