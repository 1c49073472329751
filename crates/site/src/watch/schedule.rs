//! Whose turn it is: a heap of times, and a queue of those that do not wait.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
};

use model::Id;
use tokio::time::Instant;

/// Who is looked at when. Each server has one time; older entries of the heap are passed over.
#[derive(Default)]
pub(super) struct Schedule {
    heap: BinaryHeap<Reverse<(Instant, Id)>>,
    times: HashMap<Id, Instant>,
    urgent: VecDeque<Id>,
}

impl Schedule {
    /// At that time, and not at another one.
    pub(super) fn at(&mut self, id: Id, time: Instant) {
        self.times.insert(id, time);
        self.heap.push(Reverse((time, id)));
        // What is passed over is thrown away before it is more than what counts.
        if self.heap.len() > 64 + 3 * self.times.len() {
            self.heap = self.times.iter().map(|(id, time)| Reverse((*time, *id))).collect();
        }
    }

    /// At that time, unless its turn comes before.
    pub(super) fn at_latest(&mut self, id: Id, time: Instant) {
        if self.times.get(&id).is_none_or(|known| *known > time) {
            self.at(id, time);
        }
    }

    /// Before all others.
    pub(super) fn urgent(&mut self, id: Id) {
        self.urgent.push_back(id);
    }

    /// The next one, if its time has come, and whether it is urgent.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Id, bool)> {
        if let Some(id) = self.urgent.pop_front() {
            self.times.remove(&id);
            return Some((id, true));
        }
        loop {
            let Reverse((time, id)) = *self.heap.peek()?;
            if time > now {
                return None;
            }
            self.heap.pop();
            if self.times.get(&id) == Some(&time) {
                self.times.remove(&id);
                return Some((id, false));
            }
        }
    }

    /// When the next turn is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((time, _))| *time)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_has_one_turn_and_the_urgent_go_first() {
        let start = Instant::now();
        let after = |s| start + Duration::from_secs(s);
        let mut schedule = Schedule::default();
        schedule.at(1, after(10));
        schedule.at(2, after(5));
        schedule.at_latest(1, after(20));
        assert_eq!(schedule.pop(start), None);
        schedule.at_latest(1, after(1));
        assert_eq!(schedule.pop(after(2)), Some((1, false)));
        schedule.urgent(3);
        assert_eq!(schedule.pop(start), Some((3, true)));
        assert_eq!(schedule.pop(after(30)), Some((2, false)));
        assert_eq!(schedule.pop(after(30)), None, "the older times of the first do not count");
        for n in 0..10_000 {
            schedule.at(7, after(n));
        }
        assert!(schedule.heap.len() < 100, "{}", schedule.heap.len());
    }
}
