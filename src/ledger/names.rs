//! Texts and their numbers: SKUs, locations. Texts are only ever added, so looking one up takes no
//! lock: buckets of chains through slots that never move.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

use ahash::RandomState;
use parking_lot::Mutex;

use super::slab::{NONE, Slab};

#[derive(Debug, Default)]
struct Node<T> {
    next: AtomicU32,
    name: OnceLock<T>,
}

/// Numbers for texts, in the order in which they came.
#[derive(Debug)]
pub struct Names<T> {
    buckets: Box<[AtomicU32]>,
    nodes: Slab<Node<T>>,
    hasher: RandomState,
    adding: Mutex<()>,
}

impl<T: Default + AsRef<str>> Names<T> {
    /// Room for at most `names_max` texts.
    pub fn new(names_max: u32) -> Self {
        let buckets = names_max.next_power_of_two().max(16);
        Self {
            buckets: (0..buckets).map(|_| AtomicU32::new(NONE)).collect(),
            nodes: Slab::new(names_max),
            hasher: RandomState::new(),
            adding: Mutex::new(()),
        }
    }

    fn bucket(&self, name: &str) -> &AtomicU32 {
        &self.buckets[self.hasher.hash_one(name) as usize & (self.buckets.len() - 1)]
    }

    /// The number of a text, if it has one.
    pub fn find(&self, name: &str) -> Option<u32> {
        let mut number = self.bucket(name).load(Ordering::Acquire);
        while let Some(node) = self.nodes.get(number) {
            if node.name.get().is_some_and(|n| n.as_ref() == name) {
                return Some(number);
            }
            number = node.next.load(Ordering::Acquire);
        }
        None
    }

    /// The text of a number.
    pub fn get(&self, number: u32) -> Option<&T> {
        self.nodes.get(number)?.name.get()
    }

    /// The number of a text, a new one if it has none yet. `None`: the limit is reached.
    pub fn add(&self, name: T) -> Option<u32> {
        let _adding = self.adding.lock();
        if let Some(number) = self.find(name.as_ref()) {
            return Some(number);
        }
        let number = self.nodes.fresh();
        let node = self.nodes.claim(number)?;
        let bucket = self.bucket(name.as_ref());
        node.next.store(bucket.load(Ordering::Acquire), Ordering::Release);
        if node.name.set(name).is_err() {
            unreachable!("a number is handed out once");
        }
        bucket.store(number, Ordering::Release);
        Some(number)
    }

    /// How many texts there are.
    pub fn len(&self) -> u32 {
        self.nodes.used()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots that are taken come out of blocks, one for each stripe of threads. Numbers did, too, for a
    /// day: the second thread that named a SKU gave it a number that no record could name.
    #[test]
    fn numbers_follow_each_other_whoever_adds() {
        let names = Names::<String>::new(1000);
        let numbers: Vec<_> = (0..20)
            .map(|i| std::thread::scope(|s| s.spawn(|| names.add(format!("n{i}"))).join().unwrap()))
            .collect();
        assert_eq!(numbers, (0..20).map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn a_text_keeps_its_number() {
        let names = Names::<String>::new(1000);
        for i in 0..1000 {
            assert_eq!(names.add(format!("n{i}")), Some(i));
        }
        assert_eq!(names.add("one more".into()), None);
        assert_eq!(names.add("n7".into()), Some(7));
        assert_eq!(names.find("n999"), Some(999));
        assert_eq!(names.find("n1000"), None);
        assert_eq!(names.get(3).unwrap(), "n3");
    }
}
