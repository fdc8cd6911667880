//! The answers of a connection: those that wait for the log, encoded already and in the order of
//! their decisions, and those that may leave.
//!
//! A decision's records come after those of the decisions before it, so the answers become due in
//! their order; one that speaks of an older record (a repeat) waits for those before it, a moment.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    model::Lsn,
    protocol::{Code, HEADER_BYTES, Header, Refused},
    telemetry::GatewayAnswer,
};

use super::named::Named;

/// Answers up to `end`, counted from the first that ever waited, may leave once the record at `lsn` is
/// durable.
struct Mark {
    lsn: Lsn,
    end: u64,
    due: Due,
}

/// What is to be counted of a request once its answer may leave.
pub(super) struct Due {
    pub(super) answer: GatewayAnswer,
    pub(super) named: Option<Box<Named>>,
}

#[derive(Default)]
pub(super) struct Answers {
    /// Frames that wait for the log, and what they wait for.
    sealed: Vec<u8>,
    /// Where `sealed` begins, counted likewise.
    base: u64,
    marks: VecDeque<Mark>,
    /// Frames that may leave; the first `sent` bytes have.
    open: Vec<u8>,
    sent: usize,
}

impl Answers {
    /// Answers that wait for the log.
    pub(super) fn waiting(&self) -> usize {
        self.marks.len()
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.sealed.len() + self.open.len() - self.sent
    }

    /// The record that the oldest answer waits for.
    pub(super) fn oldest(&self) -> Option<Lsn> {
        self.marks.front().map(|mark| mark.lsn)
    }

    /// When the request of the oldest answer that waits for the log had come.
    pub(super) fn oldest_began(&self) -> Option<Instant> {
        self.marks.front().map(|mark| mark.due.answer.began)
    }

    /// Where a frame is pushed that waits for nothing.
    pub(super) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.open
    }

    /// Where a frame is pushed that waits for the log; then it is [sealed](Self::seal).
    pub(super) fn sealed(&mut self) -> &mut Vec<u8> {
        &mut self.sealed
    }

    /// The frame that was pushed waits for the record at `lsn`.
    pub(super) fn seal(&mut self, lsn: Lsn, due: Due) {
        let end = self.base + self.sealed.len() as u64;
        self.marks.push_back(Mark { lsn, end, due });
    }

    /// Lets go of what waits for records below `acked`; tells `due` of each.
    pub(super) fn release(&mut self, acked: Lsn, due: impl FnMut(Due)) {
        let end = self.pop(|mark| mark.lsn < acked, due);
        if end == self.sealed.len() && self.open.is_empty() {
            std::mem::swap(&mut self.open, &mut self.sealed);
            self.base += end as u64;
        } else {
            self.open.extend_from_slice(&self.sealed[..end]);
            self.cut(end);
        }
    }

    /// Takes marks from the front while they pass; gives where in `sealed` the last one ends.
    fn pop(&mut self, passes: impl Fn(&Mark) -> bool, mut due: impl FnMut(Due)) -> usize {
        let mut end = self.base;
        while let Some(mark) = self.marks.pop_front_if(|mark| passes(mark)) {
            end = mark.end;
            due(mark.due);
        }
        (end - self.base) as usize
    }

    /// Takes sealed bytes off the front; their marks are gone already.
    fn cut(&mut self, end: usize) {
        if end > 0 {
            self.sealed.drain(..end);
            self.base += end as u64;
        }
    }

    /// Answers everything that waits for the log with `outcome_unknown`: the log has stopped.
    pub(super) fn fail_all(&mut self, due: impl FnMut(Due)) {
        let end = self.pop(|_| true, unknown(due));
        self.give_up(end);
    }

    /// Answers what has waited for the log for longer than `time` with `outcome_unknown`.
    pub(super) fn fail_old(&mut self, time: Duration, due: impl FnMut(Due)) {
        if self.oldest_began().is_some_and(|began| began.elapsed() > time) {
            let end = self.pop(|mark| mark.due.answer.began.elapsed() > time, unknown(due));
            self.give_up(end);
        }
    }

    fn give_up(&mut self, end: usize) {
        let mut left = &self.sealed[..end];
        while let Some(header) = left.first_chunk::<HEADER_BYTES>()
            && let Ok(Header { length, id, .. }) = Header::read(header, usize::MAX)
        {
            let detail = "the log did not say in time whether it is durable; repeat it";
            Refused::new(Code::OUTCOME_UNKNOWN, detail).push(&mut self.open, id);
            left = left.get(length as usize..).unwrap_or_default();
        }
        self.cut(end);
    }

    /// What may leave.
    pub(super) fn to_send(&self) -> &[u8] {
        &self.open[self.sent..]
    }

    /// So many bytes have left.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.open.len() {
            self.open.clear();
            self.sent = 0;
        } else if self.sent > self.open.len() / 2 {
            // In whole words: frames are aligned to where the buffer begins.
            self.open.drain(..self.sent & !7);
            self.sent &= 7;
        }
    }
}

/// Tells of answers that are replaced: what the log did not tell is not known.
fn unknown(mut due: impl FnMut(Due)) -> impl FnMut(Due) {
    move |mut given_up| {
        given_up.answer.status = Code::OUTCOME_UNKNOWN.status();
        due(given_up);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Frame, Inbox, kind};

    fn frames(bytes: &[u8]) -> Vec<(u64, u16)> {
        let mut inbox = Inbox::new(1 << 20);
        inbox.fill(&mut &bytes[..]).unwrap();
        let mut seen = Vec::new();
        while let Some(frame) = inbox.next().unwrap() {
            assert_eq!(frame.header.kind, kind::REFUSED);
            let refused: Option<&_> = Frame::access::<Refused<'_>>(&frame);
            seen.push((frame.header.id, refused.unwrap().code.to_native()));
        }
        seen
    }

    fn seal(answers: &mut Answers, lsn: u64, id: u64) {
        Refused::new(Code::MALFORMED, "x").push(answers.sealed(), id);
        let began = Instant::now();
        let answer = GatewayAnswer { began, kind: kind::RESERVE, status: 201, durable: true };
        answers.seal(Lsn(lsn), Due { answer, named: None });
    }

    #[test]
    fn an_answer_leaves_once_its_record_is_durable_and_not_before() {
        let mut answers = Answers::default();
        for (lsn, id) in [(8, 1), (16, 2), (8, 3), (24, 4)] {
            seal(&mut answers, lsn, id);
        }
        answers.release(Lsn(8), |_| panic!("the record at 8 is not below 8"));
        assert!(answers.to_send().is_empty());
        let mut due = 0;
        answers.release(Lsn(16), |one| due += usize::from(one.answer.status == 201));
        assert_eq!((due, answers.waiting()), (1, 3));
        assert_eq!(frames(answers.to_send()), [(1, Code::MALFORMED.0)]);
        answers.sent(answers.to_send().len());
        Refused::new(Code::MALFORMED, "y").push(answers.open(), 9);
        answers.release(Lsn(24), |_| due += 1);
        assert_eq!(due, 3);
        assert_eq!(frames(answers.to_send()).iter().map(|f| f.0).collect::<Vec<_>>(), [9, 2, 3]);
        assert_eq!(answers.oldest(), Some(Lsn(24)));
    }

    #[test]
    fn what_the_log_does_not_tell_is_not_known() {
        let mut answers = Answers::default();
        seal(&mut answers, 8, 1);
        answers.fail_old(Duration::from_secs(60), |_| panic!("it is not old"));
        std::thread::sleep(Duration::from_millis(2));
        answers.fail_old(Duration::from_millis(1), |one| assert_eq!(one.answer.status, 504));
        seal(&mut answers, 16, 2);
        seal(&mut answers, 24, 3);
        answers.fail_all(|_| {});
        let unknown = Code::OUTCOME_UNKNOWN.0;
        assert_eq!(frames(answers.to_send()), [(1, unknown), (2, unknown), (3, unknown)]);
        assert_eq!((answers.waiting(), answers.oldest()), (0, None));
    }

    #[test]
    fn what_was_sent_in_part_goes_on_where_it_stopped() {
        let mut answers = Answers::default();
        for id in 0..10 {
            Refused::new(Code::MALFORMED, "x").push(answers.open(), id);
        }
        let all = answers.to_send().to_vec();
        let mut sent = Vec::new();
        while !answers.to_send().is_empty() {
            let part = answers.to_send().len().min(37);
            sent.extend_from_slice(&answers.to_send()[..part]);
            answers.sent(part);
            assert_eq!(answers.bytes(), all.len() - sent.len());
            assert_eq!(answers.open().len() % 8, 0, "the next frame is aligned");
        }
        assert_eq!(sent, all);
    }
}
