//! What an operator must know, as states that change: a service level is breached, a sink stands still,
//! something lies dead, the log fills up, a partner's stock drifts from the ledger's, something was
//! oversold. Each change is told once, the change back to good too.

use std::collections::BTreeMap;

use super::alert::AlertKind;
use crate::{
    model::sink::SinkView,
    telemetry::{ServiceLevelView, State},
    wal::Stats,
};

/// Something that is in a state other than the good one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bad {
    state: &'static str,
    detail: String,
}

/// What kind of thing, and which.
type Key = (AlertKind, String);

/// A state has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// What it is about.
    pub alert: AlertKind,
    /// Which of them; empty where there is one only.
    pub subject: String,
    /// Its state now.
    pub state: &'static str,
    /// Its state before.
    pub previous: &'static str,
    /// What is the matter, or was.
    pub detail: String,
}

/// What is called good.
pub(super) const OK: &str = "ok";

/// Everything that is not good. Bounded by the service levels and sinks that there are.
#[derive(Debug, Default)]
pub(super) struct Conditions(BTreeMap<Key, Bad>);

impl Conditions {
    /// Looks at everything, and says what has changed.
    pub fn look(
        &mut self,
        sinks: &[SinkView],
        levels: &[ServiceLevelView],
        log: &Stats,
        oversold: u64,
    ) -> Vec<Change> {
        let mut now = BTreeMap::new();
        levels.iter().for_each(|level| now.extend(of_level(level)));
        sinks.iter().for_each(|sink| now.extend(of_sink(sink)));
        now.extend(of_log(log));
        now.extend(of_stock(oversold));
        self.turn(now)
    }

    fn turn(&mut self, now: BTreeMap<Key, Bad>) -> Vec<Change> {
        let before = std::mem::replace(&mut self.0, now);
        let state = |bad: Option<&Bad>| bad.map_or(OK, |bad| bad.state);
        let worse = self.0.iter().map(|(key, bad)| (key, bad, before.get(key), Some(bad)));
        let good = before.iter().filter(|(key, _)| !self.0.contains_key(*key));
        let good = good.map(|(key, bad)| (key, bad, Some(bad), None));
        let changes = worse.chain(good).filter(|(_, _, was, is)| state(*was) != state(*is));
        let change = |((alert, subject), told, was, is): (&Key, &Bad, _, _)| Change {
            alert: *alert,
            subject: subject.clone(),
            state: state(is),
            previous: state(was),
            detail: told.detail.clone(),
        };
        changes.map(change).collect()
    }
}

fn of_level(level: &ServiceLevelView) -> Option<(Key, Bad)> {
    let detail = format!(
        "{:.3} % good of {} events, {} % promised; the error budget burns at {:.1} over the last hour, at \
         {:.1} over the last six, {:.0} % of it are left",
        level.percent,
        level.total,
        level.target_percent,
        level.burn_rate_1h,
        level.burn_rate_6h,
        level.budget_left_percent,
    );
    let bad = Bad { state: level.state.as_str(), detail };
    (level.state != State::Ok).then(|| ((AlertKind::ServiceLevel, level.name.clone()), bad))
}

fn of_sink(sink: &SinkView) -> Vec<(Key, Bad)> {
    let mut all = Vec::new();
    let mut add =
        |kind, state, detail| all.push(((kind, sink.name.clone()), Bad { state, detail }));
    let reason = || sink.reason.clone().unwrap_or_default();
    match sink.state.as_str() {
        "paused" => add(AlertKind::Sink, "paused", reason()),
        "broken" => add(AlertKind::Sink, "broken", reason()),
        _ => {}
    }
    if sink.dead_letters > 0 {
        let detail = format!("{} dead letters wait for a person", sink.dead_letters);
        add(AlertKind::DeadLetters, "waiting", detail);
    }
    if let Some(last) = sink.reconciliation.as_ref().filter(|last| last.unexplained_positions > 0) {
        let detail =
            format!("nothing explains {} of the partner's figures", last.unexplained_positions);
        add(AlertKind::Drift, "drifting", detail);
    }
    all
}

fn of_log(log: &Stats) -> Option<(Key, Bad)> {
    let detail = || format!("{} of {} bytes of the log are used", log.used_bytes, log.budget_bytes);
    let state = match (log.exhausted, log.past_soft_mark) {
        (true, _) => "exhausted",
        (_, true) => "past_soft_mark",
        _ => return None,
    };
    Some(((AlertKind::Log, String::new()), Bad { state, detail: detail() }))
}

fn of_stock(oversold: u64) -> Option<(Key, Bad)> {
    let bad = || Bad { state: "oversold", detail: format!("{oversold} units are oversold") };
    (oversold > 0).then(|| ((AlertKind::Oversold, String::new()), bad()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(state: &'static str) -> Bad {
        Bad { state, detail: state.to_uppercase() }
    }

    fn sink(change: impl FnOnce(&mut serde_json::Value)) -> SinkView {
        let mut view = serde_json::json!({
            "name": "erp", "domain": "inventory", "state": "running", "breaker": "closed", "lanes": [],
            "acknowledged_lsn": 8, "lag_records": 0, "lag_ms": 0, "concurrency": 1,
            "batches_delivered": 0, "events_delivered": 0, "retries": 0, "dead_letters": 0,
        });
        change(&mut view);
        serde_json::from_value(view).unwrap()
    }

    #[test]
    fn what_is_bad_of_a_sink_is_seen_and_what_is_good_is_not() {
        let told = |view: &SinkView| {
            let all = of_sink(view).into_iter();
            all.map(|((kind, _), bad)| format!("{} {}", kind.as_str(), bad.state))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&sink(|_| {})), Vec::<String>::new());
        let ill = sink(|view| {
            view["state"] = "paused".into();
            view["dead_letters"] = 3.into();
            view["reconciliation"] = serde_json::json!({
                "state": "drift", "finished_at": "2026-11-27T00:00:00.000Z", "age_ms": 5,
                "unexplained_positions": 2,
            });
        });
        assert_eq!(told(&ill), ["sink paused", "dead_letters waiting", "drift drifting"]);
        assert_eq!(told(&sink(|view| view["state"] = "broken".into())), ["sink broken"]);
        assert!(of_stock(0).is_none() && of_stock(1).is_some());
    }

    #[test]
    fn each_change_is_told_once_and_so_is_its_end() {
        let mut conditions = Conditions::default();
        let key = |name: &str| (AlertKind::Sink, name.to_owned());
        let mut turn = |now: Vec<(Key, Bad)>| {
            let changes = conditions.turn(now.into_iter().collect());
            let told =
                |c: Change| format!("{} {}->{} {}", c.subject, c.previous, c.state, c.detail);
            changes.into_iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(turn(vec![(key("erp"), bad("paused"))]), ["erp ok->paused PAUSED"]);
        assert_eq!(turn(vec![(key("erp"), bad("paused"))]), Vec::<String>::new());
        let both = vec![(key("erp"), bad("broken")), (key("wms"), bad("paused"))];
        assert_eq!(turn(both), ["erp paused->broken BROKEN", "wms ok->paused PAUSED"]);
        let left = vec![(key("wms"), bad("paused"))];
        assert_eq!(turn(left), ["erp broken->ok BROKEN"]);
        assert_eq!(turn(vec![]), ["wms paused->ok PAUSED"]);
    }
}
