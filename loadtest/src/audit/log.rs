//! What shoppers were told against what stands in the log of a server that has stopped: each grant is
//! there once, under a key that no other has.

use std::{collections::HashSet, ops::ControlFlow, path::Path};

use holdfast::{
    model::{
        Lsn,
        event::{self, Event, Placed, Reserve},
    },
    wal::{self, Record, inspect::inspect},
};

use super::{Check, Told};

/// What a log says.
#[derive(Debug, Default)]
struct Said {
    grants: u64,
    keys: HashSet<[u64; 2]>,
    twice: u64,
    unreadable: u64,
}

/// The comparisons.
///
/// # Errors
/// If the log can't be read.
pub fn log(data: &Path, told: &Told) -> Result<Vec<Check>, wal::Error> {
    let mut said = Said::default();
    let inspection = inspect(data, &mut |record| {
        said.take(record);
        ControlFlow::Continue(())
    })?;
    let rot = inspection.rot.len() as i128 + i128::from(said.unreadable);
    let mut checks = vec![
        Check::number("places of the log that can't be read", 0, rot),
        Check::number("keys that stand twice in the log", 0, said.twice.into()),
    ];
    let (granted, found) = (i128::from(told.granted), i128::from(said.grants));
    if inspection.begin == Lsn(0) {
        checks.push(Check::number("grants: shoppers = log", granted, found));
    } else {
        // A checkpoint stands for what is gone; then the rest can only be too much.
        let what = "grants in the log, of which the begin is recycled, beyond those told";
        checks.push(Check::number(what, 0, (found - granted).max(0)));
    }
    Ok(checks)
}

impl Said {
    fn take(&mut self, record: &Record<'_>) {
        let Record { lsn, kind, version, body, .. } = *record;
        let key = if kind == Reserve::KIND {
            event::decode::<Reserve<'_>>(lsn, kind, version, body).map(|event| Some(&event.key))
        } else if kind == Placed::KIND {
            event::decode::<Placed>(lsn, kind, version, body)
                .map(|event| event.taken_slot.is_some().then_some(&event.key))
        } else {
            return;
        };
        match key {
            Ok(Some(key)) => {
                self.grants += 1;
                let fresh = self.keys.insert(key.hash.map(|half| half.to_native()));
                self.twice += u64::from(!fresh);
            }
            Ok(None) => {}
            Err(_) => self.unreadable += 1,
        }
    }
}
