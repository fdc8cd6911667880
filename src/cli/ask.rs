//! Where a question is asked: of a running server over HTTP, or of the data directory of a stopped one.

use std::path::{Path, PathBuf};

use clap::Args;
use holdfast::{
    config::{Config, Overrides},
    engine::Engine,
    wal::inspect::segment_bytes,
};

use reqwest::{
    Method,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};

use super::{
    Error, Source, options, runtime,
    wire::{Body, Refused, Request, Tls},
};

/// A running server.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// The running server.
    #[arg(long, default_value = "http://127.0.0.1:7411")]
    url: String,
    /// The API key, where the server has partners. Better in the environment, where other users of the
    /// machine don't see it.
    #[arg(long, env = "HOLDFAST_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    #[command(flatten)]
    tls: Tls,
}

/// What is asked.
#[derive(Debug, Clone, Args)]
pub struct Asked {
    #[command(flatten)]
    pub server: Server,
    /// Work on this data directory, without a server; none may be running on it.
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub source: Source,
}

impl Asked {
    /// Asks the server with `path` and `query`, or the engine with `ask`; the answer's JSON.
    pub fn ask<T: serde::Serialize>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        ask: impl FnOnce(&Engine) -> Result<T, holdfast::engine::Refusal>,
    ) -> Result<serde_json::Value, Error> {
        match &self.data {
            None => self.server.call(Method::GET, path, query),
            Some(data) => self.offline(data, ask),
        }
    }

    /// The same with any method, and with a body.
    pub fn send<T: serde::Serialize>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&serde_json::Value>,
        ask: impl FnOnce(&Engine) -> Result<T, holdfast::engine::Refusal>,
    ) -> Result<serde_json::Value, Error> {
        match &self.data {
            None => self.server.send(method, path, &[], body),
            Some(data) => self.offline(data, ask),
        }
    }

    /// The configuration that the data directory is used with; `None`: a running server is asked, which
    /// has its own.
    pub fn configuration(&self) -> Result<Option<Config>, Error> {
        let overrides = Overrides { data: self.data.clone(), listen: None };
        self.data.as_ref().map(|_| self.source.load(&overrides)).transpose()
    }

    /// Makes a log in a data directory that is still empty: for what may come before the first start.
    pub fn begin(&self) -> Result<(), Error> {
        let (Some(path), Some(config)) = (&self.data, self.configuration()?) else { return Ok(()) };
        let is_empty = path.read_dir().is_ok_and(|mut entries| entries.next().is_none());
        if is_empty {
            let failed = |source| Error::Engine { path: path.clone(), source };
            let engine = Engine::open(path, options::engine(&config)).map_err(failed)?;
            engine.close().map_err(failed)?;
        }
        Ok(())
    }

    fn offline<T: serde::Serialize>(
        &self,
        data: &Path,
        ask: impl FnOnce(&Engine) -> Result<T, holdfast::engine::Refusal>,
    ) -> Result<serde_json::Value, Error> {
        let answer = with_engine(data.to_owned(), &self.source, ask)?;
        let said = answer.map_err(|refusal| Error::Part {
            what: "the data directory",
            reason: format!("{}: {refusal}", refusal.code()),
        })?;
        serde_json::to_value(said).map_err(|e| unknown_answer(&e))
    }
}

/// Opens the engine of a data directory for as long as `call` takes.
pub fn with_engine<T>(
    data: PathBuf,
    source: &Source,
    call: impl FnOnce(&Engine) -> T,
) -> Result<T, Error> {
    if !data.is_dir() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(Error::File { path: data, source });
    }
    let overrides = Overrides { data: Some(data.clone()), listen: None };
    let config = source.load(&overrides)?;
    let failed = |source| Error::Engine { path: data.clone(), source };
    let mut options = options::engine(&config);
    // What the log was made with, whatever this configuration would make one with.
    let made_with = segment_bytes(&data);
    let made_with = made_with.map_err(|source| Error::Log { path: data.clone(), source })?;
    options.wal.segment_bytes = made_with.unwrap_or(options.wal.segment_bytes);
    let engine = Engine::open(&data, options).map_err(failed)?;
    let said = call(&engine);
    engine.close().map_err(failed)?;
    Ok(said)
}

impl Server {
    /// The server of a URL.
    pub fn at(url: &str, api_key: Option<String>) -> Self {
        Self { url: url.to_owned(), api_key, tls: Tls::default() }
    }

    /// Calls a route without a body; the answer's JSON.
    pub fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<serde_json::Value, Error> {
        self.send(method, path, query, None)
    }

    /// Reads what a route answers, piece by piece, however long it takes; no piece may take too long.
    pub fn download(
        &self,
        path: &[&str],
        each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let target = self.target(path)?;
        let headers = authorization(self.api_key.as_deref())?;
        let request = Request { method: Method::GET, target: &target, headers, body: None };
        let told = |reason| Error::Server { url: target.to_string(), reason };
        runtime(1)?.block_on(self.tls.download(request, each)).map_err(|refused| match refused {
            Refused::Unanswered(reason) => told(reason),
            Refused::Answered(status, text) => told(refusal(status, &text)),
        })?
    }

    fn target(&self, path: &[&str]) -> Result<reqwest::Url, Error> {
        let wrong = || Error::Usage(format!("{}: is not the URL of a server", self.url));
        let mut target = reqwest::Url::parse(&self.url).map_err(|_| wrong())?;
        target.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(path);
        Ok(target)
    }

    /// Calls a route; the answer's JSON.
    pub fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&serde_json::Value>,
    ) -> Result<serde_json::Value, Error> {
        self.send_body(method, path, query, body.map(Body::Json))
    }

    /// Sends a route lines of JSON; the answer's JSON.
    pub fn send_lines(&self, path: &[&str], lines: Vec<u8>) -> Result<serde_json::Value, Error> {
        self.send_body(Method::POST, path, &[], Some(Body::Lines(lines)))
    }

    fn send_body(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Body<'_>>,
    ) -> Result<serde_json::Value, Error> {
        let mut target = self.target(path)?;
        if !query.is_empty() {
            target.query_pairs_mut().extend_pairs(query);
        }
        let headers = authorization(self.api_key.as_deref())?;
        let request = Request { method, target: &target, headers, body };
        let answer = runtime(1)?.block_on(self.tls.send(request));
        let told = |reason| Error::Server { url: target.to_string(), reason };
        let (status, text) = answer.map_err(told)?;
        match serde_json::from_str(&text) {
            Ok(json) if status.is_success() => Ok(json),
            _ => Err(Error::Server { url: target.into(), reason: refusal(status, &text) }),
        }
    }
}

/// The header that says who calls.
fn authorization(api_key: Option<&str>) -> Result<HeaderMap, Error> {
    let Some(key) = api_key else { return Ok(HeaderMap::new()) };
    let wrong = |_| Error::Usage("the API key must be visible ASCII".to_owned());
    let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(wrong)?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

/// What a server of this version says.
pub fn read<T: serde::de::DeserializeOwned>(said: serde_json::Value) -> Result<T, Error> {
    serde_json::from_value(said).map_err(|e| unknown_answer(&e))
}

fn unknown_answer(error: &serde_json::Error) -> Error {
    let reason = format!("is of another version: {error}; --json shows it");
    Error::Part { what: "the answer", reason }
}

/// What a server says that it refuses.
fn refusal(status: reqwest::StatusCode, text: &str) -> String {
    let problem = serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    match (problem["code"].as_str(), problem["detail"].as_str()) {
        (Some(code), Some(detail)) => format!("answered {status}: {code}: {detail}"),
        _ => format!("answered {status}: {}", text.chars().take(500).collect::<String>()),
    }
}
