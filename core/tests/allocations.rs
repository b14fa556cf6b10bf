//! What hot paths allocate, counted, which no busy machine can change: reading nothing at all, and one
//! change a number that does not grow with the set.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use discover_core::{Client, Lease, Policy, Registration, ServiceSet};
use futures_util::StreamExt;

/// The system's allocator, which counts what it is asked for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe to be one")]
// SAFETY: all is left to the system's allocator, as it was asked.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what `dealloc` asks for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much work makes.
#[derive(Clone, Copy, Debug)]
struct Made {
    allocations: u64,
    bytes: u64,
}

fn made() -> Made {
    Made {
        allocations: ALLOCATIONS.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
    }
}

/// A set of so many instances, and the leases of them.
async fn fill(instances: u64) -> (Client, Vec<Lease>, ServiceSet) {
    let url = format!("memory://allocations-{instances}?ttl=10m");
    let client = Client::connect(&url).await.unwrap();
    let mut leases = Vec::new();
    for number in 0..instances {
        let host = format!("10.0.{}.{}", number / 250, number % 250);
        let registration = Registration::new("web", 80).unwrap().host(&host).unwrap();
        leases.push(client.register(registration).await.unwrap());
    }
    let set = client.services("web").unwrap();
    let count = instances as usize;
    set.wait(count, Duration::from_secs(30)).await.unwrap();
    (client, leases, set)
}

fn read(set: &ServiceSet) {
    assert!(!set.online().is_empty());
    for policy in [
        Policy::RoundRobin,
        Policy::Random,
        Policy::Weighted,
        Policy::P2c,
        Policy::Hash("key"),
    ] {
        let picked = set.pick(policy).expect("somebody is online");
        set.done(&picked);
    }
}

/// What one change makes, from the writer's call to the listener's news: the mean of some.
async fn change(leases: &[Lease], set: &ServiceSet) -> Made {
    const CHANGES: u64 = 100;
    let mut heard = set.subscribe();
    let already = leases.len() + 2;
    let all = heard.by_ref().take(already).for_each(async |_| {});
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    let before = made();
    for turn in 0..CHANGES {
        let lease = &leases[turn as usize % leases.len()];
        let attributes = [("turn", turn.to_string())];
        lease.update(attributes).await.unwrap();
        let event = tokio::time::timeout(PATIENCE, heard.next()).await.unwrap();
        assert_eq!(event.unwrap().kind(), "update");
    }
    let after = made();
    Made {
        allocations: (after.allocations - before.allocations) / CHANGES,
        bytes: (after.bytes - before.bytes) / CHANGES,
    }
}

/// A single test, so that nothing else allocates meanwhile; a single thread, so that no work is duplicated.
#[tokio::test]
async fn reading_allocates_nothing_and_a_change_no_more_in_a_big_set_than_in_a_small_one() {
    let (_client, leases, set) = fill(100).await;
    // The first look makes what all others share.
    read(&set);
    let before = made();
    (0..1000).for_each(|_| read(&set));
    assert_eq!(made().allocations, before.allocations);
    let few = change(&leases, &set).await;

    let (_client, leases, set) = fill(3_000).await;
    let many = change(&leases, &set).await;
    println!("one change among 100: {few:?}; among 3000: {many:?}");
    // A tree is a little deeper when it is thirty times bigger.
    assert!(few.allocations <= MOST.allocations, "{few:?}");
    assert!(few.bytes <= MOST.bytes, "{few:?}");
    assert!(many.allocations <= few.allocations * 2, "{few:?} {many:?}");
    assert!(many.bytes <= few.bytes * 3, "{few:?} {many:?}");
}

/// Today's figures plus a tenth. A change that lowers them updates these constants.
const MOST: Made = Made {
    allocations: 183,
    bytes: 16_650,
};
