//! The situations that targets are compared in: each is one thing that a sale does to a service.

use std::path::Path;

use super::{
    Contender::{self, Batch, Binary, Http1, Http2, InProcess, Postgres, Redis},
    Goal,
};
use crate::scenario::{self, Scenario};

/// A situation.
#[derive(Debug, Clone, PartialEq)]
pub struct Situation {
    /// Its word.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Callers, each with one request under way.
    pub callers: u32,
    /// Connections that they share.
    pub connections: u32,
    /// SKUs, all alike.
    skus: u32,
    /// Units of each.
    stock: u32,
    /// Who is compared.
    pub contenders: &'static [Contender],
    /// What is asked for.
    pub goals: &'static [Goal],
}

const fn hot(name: &'static str, about: &'static str, callers: u32) -> Situation {
    Situation {
        name,
        about,
        callers,
        connections: callers,
        skus: 1,
        stock: 1_000_000_000,
        contenders: &[Http1, Binary, Redis, Postgres],
        goals: &[Goal::Times { of: Http1, peer: Postgres, at_least: 25.0 }],
    }
}

/// All of them.
pub const SITUATIONS: [Situation; 7] = [
    Situation {
        name: "many",
        about: "50 callers on 50 connections, a cart of one unit each, 10,000 SKUs",
        callers: 50,
        connections: 50,
        skus: 10_000,
        stock: 1_000_000,
        contenders: &[Http1, Http2, Binary, Redis, Postgres],
        goals: &[Goal::Times { of: Http1, peer: Redis, at_least: 3.0 }],
    },
    Situation {
        name: "lone",
        about: "one caller alone, who waits for each answer",
        callers: 1,
        connections: 1,
        skus: 10_000,
        stock: 1_000_000,
        contenders: &[Http1, Binary, Redis, Postgres],
        goals: &[Goal::P50 { of: Http1, us_max: 150.0 }, Goal::P50 { of: Binary, us_max: 150.0 }],
    },
    hot("hot-16", "16 callers on 16 connections, all for one SKU", 16),
    hot("hot-64", "64 callers on 64 connections, all for one SKU", 64),
    Situation {
        name: "sold-out",
        about: "50 callers on 50 connections for 100 SKUs of which nothing is left",
        callers: 50,
        connections: 50,
        skus: 100,
        stock: 0,
        contenders: &[Http1, Binary, Redis, Postgres],
        goals: &[],
    },
    Situation {
        name: "gateway",
        about: "256 callers, each with one request under way, through one connection",
        callers: 256,
        connections: 1,
        skus: 10_000,
        stock: 1_000_000,
        contenders: &[Binary, Batch],
        goals: &[],
    },
    Situation {
        name: "pipelined",
        about: "4,096 requests under way, through one connection",
        callers: 4_096,
        connections: 1,
        skus: 10_000,
        stock: 1_000_000,
        contenders: &[Binary, Batch, InProcess],
        goals: &[],
    },
];

impl Situation {
    /// The one of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        SITUATIONS.iter().find(|situation| situation.name == name)
    }

    /// Its shoppers and stock. They hold and leave: a sale's first and largest wave.
    pub(super) fn scenario(&self) -> Result<Scenario, scenario::Error> {
        let Self { name, about, connections, skus, stock, .. } = self;
        let text = format!(
            "about = \"{about}\"\n[[stages]]\nshape = \"steady\"\nrate = 1\nfor_s = 1\n\
             [catalogue]\nskus = {skus}\nstock = {stock}\nzipf = 0\n[shoppers]\nabandon = 1.0\n\
             [retries]\nattempts_max = 1\n[sending]\nconnections = {connections}\n\
             batch_max = 1000\nlag_p999_us_max = 60000000\n"
        );
        Scenario::parse(name, &text, Path::new("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_situation_is_a_scenario_and_its_goals_speak_of_who_is_there() {
        for situation in &SITUATIONS {
            let scenario = situation.scenario().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.sending.connections, situation.connections);
            assert_eq!(Situation::find(situation.name), Some(situation));
            for goal in situation.goals {
                let named = match goal {
                    Goal::Times { of, peer, .. } => vec![of, peer],
                    Goal::P50 { of, .. } => vec![of],
                };
                assert!(named.iter().all(|who| situation.contenders.contains(who)), "{goal:?}");
            }
        }
        assert_eq!(Situation::find("none"), None);
    }
}
