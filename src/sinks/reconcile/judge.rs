//! The comparison itself: figures in, drifts by cause out. Pure.

use std::collections::{BTreeMap, HashMap};

use super::{lines::Missing, read::Reading};
use crate::{
    engine::Reckoned,
    model::{Location, Sku, sink::reconciliation::Drift},
};

/// With so many uncertain lines at a position every choice of them is tried.
pub(super) const CHOICES_MAX: usize = 12;

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Positions compared.
    pub positions: u64,
    /// Positions of the partner that were not.
    pub elsewhere: u64,
    /// Figures that differ, by SKU.
    pub drifts: Vec<Drift>,
}

/// A figure on both sides.
#[derive(Debug, Default)]
struct Figure {
    ledger: i64,
    /// What of it is not sealed.
    unsealed: i64,
    partner: i64,
    /// What lines that are missing for certain would do to it.
    certain: i64,
    /// What each of the others would do to it, and whether it lies dead.
    uncertain: Vec<(i64, bool)>,
}

impl Figure {
    fn lacks(&mut self, effect: i64, missing: &Missing) {
        match missing.certain {
            _ if effect == 0 => {}
            true => self.certain += effect,
            false => self.uncertain.push((effect, missing.dead)),
        }
    }

    /// The partner's less the ledger's, by cause: in flight, dead-lettered, unexplained.
    fn causes(&self) -> (i64, i64, i64) {
        let lacking = self.ledger - self.unsealed - self.certain - self.partner;
        let (in_flight, dead) = nearest(&self.uncertain, lacking);
        let unexplained = lacking - in_flight - dead;
        (-(self.unsealed + in_flight), -(self.certain + dead), -unexplained)
    }

    fn drift(&self, (sku, location): (&Sku, Option<&Location>), figure: &str) -> Option<Drift> {
        let (in_flight, dead_lettered, unexplained) = self.causes();
        let nothing = (in_flight, dead_lettered, unexplained) == (0, 0, 0);
        (!nothing).then(|| Drift {
            sku: sku.clone(),
            location: location.cloned(),
            figure: figure.to_owned(),
            ledger: self.ledger,
            partner: self.partner,
            in_flight,
            dead_lettered,
            unexplained,
        })
    }
}

/// The choice of lines whose sum is nearest to what is lacking, with as few of them as will do: its sums
/// of lines in flight and dead.
fn nearest(lines: &[(i64, bool)], lacking: i64) -> (i64, i64) {
    if lines.len() > CHOICES_MAX {
        let sum = |below: bool| {
            let chosen = lines.iter().filter(|(effect, _)| (*effect < 0) == below);
            chosen.map(|(effect, _)| effect).sum::<i64>()
        };
        return (lacking.clamp(sum(true), sum(false)), 0);
    }
    let sums = |choice: u32| {
        let chosen = lines.iter().enumerate().filter(|(at, _)| choice >> at & 1 == 1);
        chosen.fold((0, 0), |(flying, dead), (_, (effect, is_dead))| match is_dead {
            true => (flying, dead + effect),
            false => (flying + effect, dead),
        })
    };
    let off = |choice: &u32| {
        let (flying, dead) = sums(*choice);
        ((lacking - flying - dead).unsigned_abs(), choice.count_ones())
    };
    (0..1 << lines.len()).min_by_key(off).map_or((0, 0), sums)
}

/// Compares what the ledger says of a sink's positions with what its partner said. `committed`: also
/// what is sold and not shipped.
pub(super) fn judge(
    ledger: Vec<Reckoned>,
    reading: &Reading,
    missing: &[Missing],
    committed: bool,
) -> Judgement {
    let mut on_hand: BTreeMap<(Sku, Location), Figure> = BTreeMap::new();
    let mut sold: BTreeMap<Sku, Figure> = BTreeMap::new();
    for position in ledger {
        let all = sold.entry(position.sku.clone()).or_default();
        all.ledger += position.committed;
        all.unsealed += position.committed_since;
        let here = on_hand.entry((position.sku, position.location)).or_default();
        here.ledger = position.on_hand;
        here.unsealed = position.on_hand_since;
    }
    let positions = on_hand.len() as u64;
    let mut elsewhere = 0;
    for ((sku, location), told) in &reading.positions {
        let key = sku.parse::<Sku>().ok().zip(location.parse::<Location>().ok());
        let Some((sku, location)) = key else {
            elsewhere += 1;
            continue;
        };
        if let Some(all) = sold.get_mut(&sku) {
            all.partner = all.partner.saturating_add(told.committed.unwrap_or(0));
        }
        match on_hand.get_mut(&(sku, location)) {
            Some(here) => here.partner = told.on_hand,
            None => elsewhere += 1,
        }
    }
    for lacking in missing {
        let line = &lacking.line;
        if let Some(here) = on_hand.get_mut(&(line.sku.clone(), line.location.clone())) {
            here.lacks(line.on_hand(), lacking);
        }
        if let Some(all) = sold.get_mut(&line.sku) {
            all.lacks(line.committed(), lacking);
        }
    }
    let here = on_hand
        .iter()
        .filter_map(|((sku, location), figure)| figure.drift((sku, Some(location)), "on_hand"));
    let all = sold.iter().filter(|_| committed);
    let all = all.filter_map(|(sku, figure)| figure.drift((sku, None), "committed"));
    Judgement { positions, elsewhere, drifts: here.chain(all).collect() }
}

/// The partner's positions by SKU and location.
pub(super) type Positions = HashMap<(String, String), Told>;

/// What a partner says of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub on_hand: i64,
    pub committed: Option<i64>,
}
