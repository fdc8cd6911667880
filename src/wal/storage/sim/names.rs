//! The directory of the simulated disk: its names in memory and on the disk, and what is counted: syncs
//! and space.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    inode::{Inode, SmallData},
    random::Random,
};

pub(super) fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Put(String, Inode),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) live: BTreeMap<String, Inode>,
    pub(super) disk: BTreeMap<String, Inode>,
    pub(super) unsynced: Vec<NameChange>,
    pub(super) syncs: u64,
    pub(super) sync_fails_at: Option<u64>,
    pub(super) space_bytes: Option<u64>,
    pub(super) make_delay: Duration,
    pub(super) sync_delay: Duration,
    pub(super) random: u64,
}

/// Keeps files that have two names one file when a disk is copied.
#[derive(Default)]
pub(super) struct Copies(BTreeMap<usize, Inode>);

impl Copies {
    pub(super) fn inode(&mut self, inode: &Inode, mut copy: impl FnMut(&Inode) -> Inode) -> Inode {
        self.0.entry(inode.identity()).or_insert_with(|| copy(inode)).clone()
    }

    pub(super) fn names(
        &mut self,
        names: &BTreeMap<String, Inode>,
        mut copy: impl FnMut(&Inode) -> Inode,
    ) -> BTreeMap<String, Inode> {
        names.iter().map(|(name, inode)| (name.clone(), self.inode(inode, &mut copy))).collect()
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, Inode>) {
        match self {
            Self::Put(name, inode) => {
                names.insert(name.clone(), inode.clone());
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl State {
    pub(super) fn used(&self) -> u64 {
        self.live.values().map(Inode::bytes).sum()
    }

    pub(super) fn put(&mut self, name: &str, inode: Inode) {
        self.live.insert(name.to_owned(), inode.clone());
        self.unsynced.push(NameChange::Put(name.to_owned(), inode));
    }

    pub(super) fn check_space(&self, more: u64) -> io::Result<()> {
        match self.space_bytes {
            Some(space) if self.used() + more > space => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    /// Counts a sync; an error if it is the one that is to fail.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let failed = self.sync_fails_at == Some(self.syncs);
        self.syncs += 1;
        if failed {
            return Err(io::Error::other("simulated: input/output error"));
        }
        Ok(())
    }

    pub(super) fn small(&self, name: &str) -> io::Result<&Arc<Mutex<SmallData>>> {
        match self.live.get(name) {
            Some(Inode::Small(data)) => Ok(data),
            _ => Err(not_found()),
        }
    }
}

impl State {
    /// Everything in memory, what was not synced still not synced.
    pub(super) fn killed(&self) -> Self {
        let mut copies = Copies::default();
        let mut copied =
            Self { random: self.random, space_bytes: self.space_bytes, ..Self::default() };
        copied.live = copies.names(&self.live, Inode::copy);
        copied.disk = copies.names(&self.disk, Inode::copy);
        let change = |change: &NameChange| match change {
            NameChange::Put(name, inode) => {
                NameChange::Put(name.clone(), copies.inode(inode, Inode::copy))
            }
            other => other.clone(),
        };
        copied.unsynced = self.unsynced.iter().map(change).collect();
        copied
    }

    /// What a loss of power leaves of it.
    pub(super) fn crashed(&self, random: &mut Random) -> Self {
        let mut names = self.disk.clone();
        let keeps = random.below(4);
        for change in &self.unsynced {
            if keeps == 0 || (keeps != 1 && random.below(2) == 0) {
                change.apply(&mut names);
            }
        }
        let mut copies = Copies::default();
        let names = copies.names(&names, |inode| inode.crashed(random));
        Self {
            live: names.clone(),
            disk: names,
            random: random.next_u64(),
            space_bytes: self.space_bytes,
            ..Self::default()
        }
    }
}
