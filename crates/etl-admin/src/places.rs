//! Who is connected: how many at once, how many of one address, and who makes room when others wait.
//!
//! A connection that is being answered is never cut off. One that says nothing, or has not said what it wants yet, is as good as idle,
//! so that whoever holds connections open keeps nobody out: of the network that has the most, the one that was idle for longest goes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::access::network;

/// The connections there are.
pub(crate) struct Places {
    most: usize,
    most_of_one: usize,
    held: Mutex<Held>,
    /// A connection has gone, or has been answered.
    freed: Notify,
}

#[derive(Default)]
struct Held {
    next: u64,
    by_id: HashMap<u64, Holder>,
}

struct Holder {
    network: IpAddr,
    state: State,
    leave: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is being answered, since then.
    Idle(Instant),
    /// A request is being answered, or its answer is on its way.
    Busy { answered: bool },
}

/// One connection's place, which is free again when this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
    leave: Arc<Notify>,
}

impl Places {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            most,
            most_of_one,
            held: Mutex::default(),
            freed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from there, once there is one; `None` where its own address has taken all that it may have, and each is
    /// being answered.
    pub(crate) async fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = network(address);
        loop {
            // Made before looking, so that what is freed in between is not missed.
            let freed = self.freed.notified();
            {
                let mut held = self.lock();
                if held.count(network) >= self.most_of_one && !held.make_room(Some(network)) {
                    return None;
                }
                if held.by_id.len() < self.most || held.make_room(None) {
                    return Some(held.add(network, self));
                }
            }
            freed.await;
        }
    }

    /// Whether anything is being answered.
    pub(crate) fn is_answering(&self) -> bool {
        let held = self.lock();
        let mut holders = held.by_id.values();
        holders.any(|holder| matches!(holder.state, State::Busy { .. }))
    }
}

impl Held {
    fn count(&self, network: IpAddr) -> usize {
        let holders = self.by_id.values();
        holders.filter(|holder| holder.network == network).count()
    }

    fn add(&mut self, network: IpAddr, places: &Arc<Places>) -> Place {
        let (id, leave) = (self.next, Arc::new(Notify::new()));
        self.next += 1;
        let holder = Holder {
            network,
            state: State::Idle(Instant::now()),
            leave: leave.clone(),
        };
        self.by_id.insert(id, holder);
        Place {
            places: places.clone(),
            id,
            leave,
        }
    }

    /// Tells one to leave that is idle: of this network, or of the one that has the most. Whether there was one.
    fn make_room(&mut self, of: Option<IpAddr>) -> bool {
        let mut sizes: HashMap<IpAddr, usize> = HashMap::new();
        for holder in self.by_id.values() {
            *sizes.entry(holder.network).or_default() += 1;
        }
        let idle = self.by_id.iter().filter_map(|(id, holder)| {
            let State::Idle(since) = holder.state else {
                return None;
            };
            let is_meant = of.is_none_or(|network| holder.network == network);
            is_meant.then_some((std::cmp::Reverse(sizes[&holder.network]), since, *id))
        });
        let Some((_, _, id)) = idle.min() else {
            return false;
        };
        if let Some(holder) = self.by_id.remove(&id) {
            holder.leave.notify_one();
        }
        true
    }
}

impl Place {
    /// Waits until it is to be given up.
    pub(crate) async fn left(&self) {
        self.leave.notified().await;
    }

    /// A request is there. `false`: the place was given to somebody else, and nothing may begin any more.
    pub(crate) fn begin(&self) -> bool {
        self.set(State::Busy { answered: false })
    }

    /// What goes back is known.
    pub(crate) fn answered(&self) {
        self.set(State::Busy { answered: true });
    }

    /// Everything that was to go back has gone.
    pub(crate) fn flushed(&self) {
        let mut held = self.places.lock();
        if let Some(holder) = held.by_id.get_mut(&self.id)
            && holder.state == (State::Busy { answered: true })
        {
            holder.state = State::Idle(Instant::now());
            self.places.freed.notify_waiters();
        }
    }

    fn set(&self, state: State) -> bool {
        let mut held = self.places.lock();
        let holder = held.by_id.get_mut(&self.id);
        holder.map(|holder| holder.state = state).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().by_id.remove(&self.id);
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(work)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn who_has_the_most_makes_room() {
        block_on(async {
            let places = Arc::new(Places::new(4, 3));
            let mut many = Vec::new();
            for _ in 0..3 {
                many.push(places.take(address(1)).await.expect("a place"));
            }
            let other = places.take(address(2)).await.expect("a place");
            // Its own oldest one goes when an address wants more than it may have.
            assert!(many[1].begin());
            many.push(places.take(address(1)).await.expect("a place"));
            many[0].left().await;
            assert!(!many[0].begin());
            // Of the two that are idle, the older goes for somebody else; the other address has fewer, and stays.
            let third = places.take(address(3)).await.expect("a place");
            many[2].left().await;
            assert!(many[1].begin() && other.begin() && third.begin());
        });
    }

    #[test]
    fn who_is_being_answered_stays() {
        block_on(async {
            let places = Arc::new(Places::new(2, 1));
            let first = places.take(address(1)).await.expect("a place");
            let second = places.take(address(2)).await.expect("a place");
            assert!(first.begin() && second.begin() && places.is_answering());
            assert!(places.take(address(1)).await.is_none());
            let waiting = places.take(address(3));
            let answering = async {
                tokio::task::yield_now().await;
                first.flushed();
                first.answered();
                first.flushed();
            };
            let (third, ()) = tokio::join!(waiting, answering);
            first.left().await;
            assert!(third.is_some() && !first.begin() && second.begin());
        });
    }
}
