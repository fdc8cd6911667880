//! The lines that a partner lacks, or may lack, between two looks at its sink.

use std::collections::{HashMap, HashSet};

use crate::{
    engine::Engine,
    feed::{
        self,
        outstanding::{Look, Moved, lines_of, sealed_lines},
    },
    wal::Storage,
};

/// A line that the partner may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub line: Moved,
    /// It lacks it, whatever happens.
    pub certain: bool,
    /// It lies dead.
    pub dead: bool,
}

/// See the module; `before` and `after` are the looks.
pub(super) fn missing<S: Storage>(
    engine: &Engine<S>,
    sink: &str,
    before: &Look,
    after: &Look,
) -> Result<Vec<Missing>, feed::Error> {
    let mut found: HashMap<String, Missing> = HashMap::new();
    let mut add = |lines: Vec<Moved>, certain: bool, dead: bool| {
        for line in lines {
            found.insert(line.line_id.clone(), Missing { line, certain, dead });
        }
    };
    let sealed = engine.batches_from(sink, before.covers, after.last_number);
    let sealed = sealed.into_iter().filter(|(number, _)| *number > before.last_number);
    let pending = before.pending.iter().chain(&after.pending).copied();
    let batches: HashSet<_> = sealed.chain(pending).collect();
    for batch in batches {
        add(sealed_lines(engine, sink, batch)?, false, false);
    }
    // In this order: what is known of a line afterwards counts.
    for (letter, _) in &before.letters {
        add(lines_of(&letter.body)?, false, true);
    }
    for (letter, is_sent_again) in &after.letters {
        let certain = !letter.uncertain && !is_sent_again;
        add(lines_of(&letter.body)?, certain, !is_sent_again);
    }
    Ok(found.into_values().collect())
}
