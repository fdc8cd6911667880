//! A part's events on their way to the leaders of their partitions. What is too large for the topic is
//! halved until the events are found that no broker takes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

use super::{
    super::cloud_events::CloudEvent,
    Places, Session, Settings,
    connection::Api,
    records::{self, Author},
    transaction::place,
    trouble::{Trouble, code},
    wire::{Reader, Writer},
};
use crate::{
    delivery::{Outcome, Part},
    feed::Rejected,
};

/// What became of a part's events.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// How many are there.
    pub stored: usize,
    rejected: Vec<Rejected>,
}

impl Sent {
    /// What the attempt came to.
    pub fn outcome(self) -> Outcome {
        if self.stored == 0 && !self.rejected.is_empty() {
            let answer = self.rejected[0].reason.clone();
            return Outcome::Refused { status: 413, rejected: self.rejected, answer };
        }
        Outcome::Done { status: 200, rejected: self.rejected }
    }
}

/// Events of one partition that go as one batch, by their places in the part.
type Run = Vec<usize>;

/// See the module.
pub(super) struct Sender<'a> {
    settings: &'a Settings,
    part: &'a Part,
    events: &'a [CloudEvent],
    /// What is still to be sent of each partition, in its order.
    queues: BTreeMap<i32, VecDeque<Run>>,
    sent: Sent,
}

impl<'a> Sender<'a> {
    /// Of a part's events, which go to these places.
    pub fn new(
        settings: &'a Settings,
        part: &'a Part,
        events: &'a [CloudEvent],
        places: Places,
    ) -> Self {
        let queues = places.into_iter().map(|(partition, run)| (partition, VecDeque::from([run])));
        Self { settings, part, events, queues: queues.collect(), sent: Sent::default() }
    }

    /// Sends them all; `touched`, if it is given, is set before the first leaves.
    pub async fn send(
        mut self,
        session: &mut Session,
        touched: Option<&AtomicBool>,
    ) -> Result<Sent, Trouble> {
        while !self.queues.is_empty() {
            for (leader, runs) in self.round(session) {
                let body = self.request(session, &runs);
                if let Some(touched) = touched {
                    touched.store(true, Ordering::Relaxed);
                }
                let answer = session.cluster.call(leader, Api::PRODUCE, &body, self.settings);
                let codes = produced(answer.await?)?;
                for (partition, run) in runs {
                    let code = codes.get(&partition).copied();
                    let code = code.ok_or(Trouble::Unreadable("it leaves a partition out"))?;
                    self.hear(session, partition, &run, code)?;
                }
            }
        }
        Ok(self.sent)
    }

    /// The first run of each partition, by the broker that leads it.
    fn round(&mut self, session: &Session) -> BTreeMap<i32, Vec<(i32, Run)>> {
        let mut round: BTreeMap<i32, Vec<(i32, Run)>> = BTreeMap::new();
        for (partition, queue) in &mut self.queues {
            if let Some(run) = queue.pop_front() {
                let leader = session.cluster.leader(*partition);
                round.entry(leader).or_default().push((*partition, run));
            }
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        round
    }

    fn request(&self, session: &Session, runs: &[(i32, Run)]) -> Writer {
        let now_ms = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let timeout_ms = i32::try_from(self.settings.timeout.as_millis()).unwrap_or(i32::MAX);
        let open = session.transactions.as_ref();
        let mut body = Writer::default();
        // -1: every in-sync replica has it.
        body.text_or_null(open.map(|open| open.id())).i16(-1).i32(timeout_ms);
        body.len(1).text(&self.settings.topic).len(runs.len());
        for (partition, run) in runs {
            let events: Vec<_> = run.iter().map(|at| &self.events[*at]).collect();
            let author = open.map_or(Author::NOBODY, |open| open.author(*partition));
            body.i32(*partition).bytes(&records::batch(&events, &self.part.id, author, now_ms));
        }
        body
    }

    /// Hears what became of a run.
    fn hear(
        &mut self,
        session: &mut Session,
        partition: i32,
        run: &[usize],
        code: i16,
    ) -> Result<(), Trouble> {
        match code {
            code::NONE | code::DUPLICATE_SEQUENCE_NUMBER => {
                self.sent.stored += run.len();
                if let Some(open) = &mut session.transactions {
                    open.written(partition, run.len());
                }
            }
            code::MESSAGE_TOO_LARGE | code::RECORD_LIST_TOO_LARGE | code::INVALID_RECORD => {
                self.halve(partition, run, code);
            }
            _ => Trouble::unless_none("Produce", place(&self.settings.topic, partition), code)?,
        }
        Ok(())
    }

    /// None of the run is there. Its halves may be; a single event is not taken at all.
    fn halve(&mut self, partition: i32, run: &[usize], code: i16) {
        if let [only] = run {
            let place = place(&self.settings.topic, partition);
            let said = Trouble::Said { api: "Produce", place, code };
            let line_id = self.events[*only].id.clone();
            self.sent.rejected.push(Rejected { line_id, reason: said.to_string() });
            return;
        }
        let (first, second) = run.split_at(run.len() / 2);
        let queue = self.queues.entry(partition).or_default();
        queue.push_front(second.to_vec());
        queue.push_front(first.to_vec());
    }
}

/// The error code of each partition.
fn produced(mut answer: Reader) -> Result<BTreeMap<i32, i16>, Trouble> {
    let topics = answer.array(|r| {
        r.text()?;
        r.array(|r| {
            let heard = (r.i32()?, r.i16()?);
            r.i64()?;
            r.i64()?;
            Ok(heard)
        })
    })?;
    Ok(topics.into_iter().flatten().collect())
}
