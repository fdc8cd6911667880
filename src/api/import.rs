//! `POST /v1/stock/import`: positions as lines of NDJSON, each decided alone. The stream is read in
//! bounded memory: one line at most is held beside the chunk that is being read, and decisions are
//! settled in groups, so that a group costs one sync of the log.

use std::time::Duration;

use axum::{
    extract::{self, Request},
    http::StatusCode,
    response::Response,
};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};
use utoipa::ToSchema;

use super::{
    State,
    access::Caller,
    answer::{self, Effect},
    codes, json,
    problem::Problem,
    request, stages,
};
use crate::{
    engine::Decision,
    model::{command::ImportStock, view::PositionView},
    telemetry::Stage,
};

/// Decisions that are settled together.
const GROUP_MAX: usize = 512;

/// What became of an import.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct ImportAnswer {
    /// Lines applied.
    pub applied: u64,
    /// Lines that were not, in their order as far as possible.
    pub refused: Vec<RefusedLine>,
    /// Lines refused beyond those listed.
    pub refused_unlisted: u64,
}

/// A line that was not applied.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RefusedLine {
    /// Its number, from 1.
    pub line: u64,
    /// Why, as in a problem.
    pub code: &'static str,
    /// Why, in words.
    pub detail: String,
}

/// Sets many positions.
#[utoipa::path(post, path = "/v1/stock/import", tag = "stock",
    request_body(content = ImportStock, content_type = "application/x-ndjson",
        description = "One such object a line."),
    responses((status = 200, description = "What became of the lines.", body = ImportAnswer)))]
pub(super) async fn import(
    extract::State(state): extract::State<State>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, mut body) = request.into_parts();
    if !request::check_type(&parts.headers, "application/x-ndjson")? {
        return Err(Problem::detailed(
            &codes::UNSUPPORTED_MEDIA_TYPE,
            "the body has no Content-Type; it must be application/x-ndjson",
        ));
    }
    let caller = Caller::of(&parts.extensions);
    let limit = caller.body_bytes_max(state.options().import_bytes_max);
    request::check_length(&parts.headers, limit)?;
    state.engine()?.admit_import()?;
    let mut import = Import::new(state.clone());
    match import.run(&mut body, limit).await {
        Ok(()) => Ok(answer::json(StatusCode::OK, &import.answer)),
        Err(problem) => {
            import.settle().await;
            Err(problem.with_import(import.answer))
        }
    }
}

/// An import under way.
struct Import {
    state: State,
    /// The last line that was begun.
    line: u64,
    /// What is there of a line whose end has not come yet.
    partial: Vec<u8>,
    /// The line under way was found too long; what follows of it is dropped.
    too_long: bool,
    group: Vec<(u64, Decision<PositionView>)>,
    answer: ImportAnswer,
}

impl Import {
    fn new(state: State) -> Self {
        Self {
            state,
            line: 0,
            partial: Vec::new(),
            too_long: false,
            group: Vec::with_capacity(GROUP_MAX),
            answer: ImportAnswer::default(),
        }
    }

    /// How long more of the body may take to come, and all of it.
    fn waits(&self) -> (Duration, Duration) {
        let options = self.state.options();
        (
            Duration::from_millis(options.request_timeout_ms),
            Duration::from_millis(options.import_timeout_ms),
        )
    }

    /// Reads and decides all lines. An unfinished last line counts only if the body ended as it
    /// said it would.
    async fn run(&mut self, body: &mut axum::body::Body, limit: u64) -> Result<(), Problem> {
        let (idle, whole) = self.waits();
        let end = Instant::now() + whole;
        let late = |_| Problem::new(&codes::REQUEST_TIMEOUT);
        let mut bytes = 0_u64;
        loop {
            let read = timeout_at(end, timeout(idle, request::next(body)));
            let Some(chunk) = read.await.map_err(late)?.map_err(late)?? else { break };
            stages::lap(Stage::Receive);
            bytes += chunk.len() as u64;
            if bytes > limit {
                return Err(Problem::too_large(limit));
            }
            self.chunk(&chunk).await;
            stages::lap(Stage::Decide);
        }
        if !self.partial.is_empty() || self.too_long {
            self.end_line().await;
        }
        self.settle().await;
        Ok(())
    }

    async fn chunk(&mut self, chunk: &[u8]) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.piece(text);
            if ends {
                self.end_line().await;
            }
        }
    }

    fn piece(&mut self, text: &[u8]) {
        if self.too_long
            || self.partial.len() + text.len() > self.state.options().import_line_bytes_max
        {
            self.too_long = true;
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(text);
        }
    }

    async fn end_line(&mut self) {
        self.line += 1;
        let line = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.too_long) {
            let limit = self.state.options().import_line_bytes_max;
            let detail = format!("the line is longer than {limit} bytes");
            self.refuse(self.line, Problem::detailed(&codes::TOO_LARGE, detail));
        } else if !line.iter().all(u8::is_ascii_whitespace) {
            self.decide(&line);
        }
        self.partial = line;
        self.partial.clear();
        if self.group.len() >= GROUP_MAX {
            self.settle().await;
        }
    }

    fn decide(&mut self, line: &[u8]) {
        let decided = json::parse::<ImportStock>(line).and_then(|stock| {
            let (sku, location, set) = stock.into_parts();
            let engine = self.state.engine()?;
            engine.admit_import()?;
            Ok(engine.set_stock(&sku, &location, &set))
        });
        match decided {
            Ok(decision) => self.group.push((self.line, decision)),
            Err(problem) => self.refuse(self.line, problem),
        }
    }

    /// Waits for the group; the first wait is the sync, the others find it done.
    async fn settle(&mut self) {
        stages::lap(Stage::Decide);
        let deadline = answer::deadline(&self.state);
        for (line, decision) in std::mem::take(&mut self.group) {
            match answer::settle(&self.state, decision, Effect::Change, deadline).await {
                Ok(_) => self.answer.applied += 1,
                Err(problem) => self.refuse(line, problem),
            }
        }
    }

    fn refuse(&mut self, line: u64, problem: Problem) {
        if self.answer.refused.len() >= self.state.options().import_refused_max {
            self.answer.refused_unlisted += 1;
            return;
        }
        let detail = problem.detail().to_owned();
        self.answer.refused.push(RefusedLine { line, code: problem.code().code, detail });
    }
}
