//! A sending thread's connections to a peer, each with one request under way at a time, as a pool of them
//! is used by storefronts: no pipelining.
//!
//! A request takes an idle connection with it and brings it back with the answer. One whose request was
//! given up, or that broke, is not used again: another is opened in its place.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::AbortHandle,
    time::timeout,
};

use super::asked::Asked;
use crate::{
    plan::Plan,
    target::{Answer, Clock, Error, Link, Reactor, Request, Said, Sent},
};

/// How long a connection may take to be opened.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);
/// The pause after one that could not be.
const REOPEN_PAUSE: Duration = Duration::from_millis(5);

/// Opens connections.
pub(super) trait Dial: Clone + Send + 'static {
    /// A connection.
    type Line: Line;
    /// Opens one.
    fn dial(&self) -> impl Future<Output = Result<Self::Line, String>> + Send;
}

/// A connection.
pub(super) trait Line: Send + 'static {
    /// Asks, and waits for the answer. After [`Said::Broken`] it is not asked again.
    fn ask(&mut self, asked: Asked) -> impl Future<Output = Said> + Send;
}

/// What comes out of the tasks on the runtime.
enum Came<L> {
    Answer(Answer, L),
    Opened(Option<L>),
}

/// The connections of one thread.
pub(super) struct PeerLink<D: Dial> {
    reactor: Reactor,
    dial: D,
    plan: Arc<Plan>,
    clock: Clock,
    idle: Vec<D::Line>,
    /// Connections that are to be opened.
    missing: usize,
    under_way: HashMap<u32, AbortHandle>,
    tell: UnboundedSender<Came<D::Line>>,
    /// No longer than there are connections.
    came: UnboundedReceiver<Came<D::Line>>,
}

impl<D: Dial> PeerLink<D> {
    /// Opens all connections.
    pub fn open(
        name: &'static str,
        dial: D,
        count: u32,
        plan: Arc<Plan>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let failed = |reason| Error::Peer { name, reason };
        let reactor = Reactor::start().map_err(|e| failed(e.to_string()))?;
        let idle = reactor.runtime.block_on(async {
            let mut idle = Vec::new();
            for _ in 0..count {
                let opened = timeout(OPEN_PATIENCE, dial.dial()).await;
                idle.push(opened.map_err(|_| "no connection in time".to_owned())??);
            }
            Ok(idle)
        });
        let idle = idle.map_err(failed)?;
        let (tell, came) = unbounded_channel();
        let under_way = HashMap::new();
        Ok(Self { reactor, dial, plan, clock, idle, missing: 0, under_way, tell, came })
    }

    fn reopen(&mut self) {
        for _ in 0..std::mem::take(&mut self.missing) {
            let (dial, tell) = (self.dial.clone(), self.tell.clone());
            self.reactor.runtime.spawn(async move {
                let opened = timeout(OPEN_PATIENCE, dial.dial()).await.ok().and_then(Result::ok);
                if opened.is_none() {
                    tokio::time::sleep(REOPEN_PAUSE).await;
                }
                // Nobody is there to be told when the run is over.
                let _ = tell.send(Came::Opened(opened));
            });
        }
    }

    fn take(&mut self, came: Came<D::Line>, answers: &mut Vec<Answer>) {
        match came {
            Came::Answer(answer, line) => {
                // What was given up has had another connection opened for it.
                if self.under_way.remove(&answer.ticket).is_none() {
                    return;
                }
                match answer.said {
                    Said::Broken => self.missing += 1,
                    _ => self.idle.push(line),
                }
                answers.push(answer);
            }
            Came::Opened(Some(line)) => self.idle.push(line),
            Came::Opened(None) => self.missing += 1,
        }
    }
}

impl<D: Dial> Link for PeerLink<D> {
    fn send(&mut self, ticket: u32, request: &Request<'_>) -> Sent {
        let Some(mut line) = self.idle.pop() else { return Sent::Full };
        let asked = Asked::of(&self.plan, request);
        let (tell, clock) = (self.tell.clone(), self.clock);
        let task = self.reactor.runtime.spawn(async move {
            let said = line.ask(asked).await;
            let answer = Answer { ticket, at: clock.now(), said };
            // Nobody is there to be told when the run is over.
            let _ = tell.send(Came::Answer(answer, line));
        });
        self.under_way.insert(ticket, task.abort_handle());
        Sent::Taken
    }

    fn poll(&mut self, wait: Duration, answers: &mut Vec<Answer>) {
        self.reopen();
        let first = self.reactor.wait(wait, self.came.recv());
        if let Some(first) = first {
            self.take(first, answers);
        }
        while let Ok(came) = self.came.try_recv() {
            self.take(came, answers);
        }
    }

    fn abandon(&mut self, ticket: u32) {
        if let Some(task) = self.under_way.remove(&ticket) {
            // Its connection goes with it.
            task.abort();
            self.missing += 1;
        }
    }
}
