//! What the log's definitions say of numbers, for the records that are shown.

use std::collections::HashMap;

use holdfast::{
    engine::say,
    model::event::{Define, Event},
    wal::Record,
};

/// The names that a log's definitions gave so far.
#[derive(Debug, Default)]
pub struct Names {
    positions: HashMap<u32, (String, String)>,
    skus: HashMap<u32, String>,
}

impl Names {
    /// Takes a definition in; other records teach nothing.
    pub fn learn(&mut self, record: &Record<'_>) {
        if record.kind != Define::KIND {
            return;
        }
        if let Ok(define) = say::owned::<Define>(record) {
            self.skus.insert(define.sku_number, define.sku.clone());
            self.positions.insert(define.position, (define.sku, define.location));
        }
    }
}

impl say::Names for Names {
    fn position(&self, number: u32) -> Option<(String, String)> {
        self.positions.get(&number).cloned()
    }

    fn sku(&self, number: u32) -> Option<String> {
        self.skus.get(&number).cloned()
    }
}

#[cfg(test)]
mod tests {
    use holdfast::model::{Lsn, event};

    use super::{say::Names as _, *};

    #[test]
    fn a_definition_gives_names() {
        let define = Define {
            at_ms: 1,
            position: 3,
            sku_number: 2,
            sku: "TEE-M".to_owned(),
            location: "BER".to_owned(),
        };
        let mut body = Vec::new();
        event::encode(&define, &mut body);
        let (lsn, end, kind) = (Lsn(640), Lsn(1280), Define::KIND);
        let record = Record { lsn, end, kind, version: 1, time_ms: 7, body: &body };
        let mut names = Names::default();
        names.learn(&record);
        assert_eq!(names.position(3), Some(("TEE-M".to_owned(), "BER".to_owned())));
        assert_eq!(names.sku(2).as_deref(), Some("TEE-M"));
        assert_eq!(names.position(4), None);
    }
}
