//! Allocations of hot paths: reads allocate nothing, and the number for one change does not grow with the set.
//! Counts do not depend on the load of the machine, unlike times.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use discover_core::{Client, Lease, Policy, Registration, ServiceSet};
use futures_util::StreamExt;

/// The system's allocator, with counters of allocations and bytes.
struct CountingAllocator;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Time limit of each wait for an event.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Number and size of allocations.
#[derive(Clone, Copy, Debug)]
struct Allocated {
    allocations: u64,
    bytes: u64,
}

fn allocated() -> Allocated {
    Allocated {
        allocations: ALLOCATIONS.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
    }
}

/// Registers this many instances, and waits until the set contains them.
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
        let picked = set.pick(policy).expect("an instance is online");
        set.done(&picked);
    }
}

/// Returns the mean allocations of one change, from the call of `update` until the subscriber receives the event.
async fn change(leases: &[Lease], set: &ServiceSet) -> Allocated {
    const CHANGES: u64 = 100;
    let mut events = set.subscribe();
    let initial = leases.len() + 2;
    let all = events.by_ref().take(initial).for_each(async |_| {});
    tokio::time::timeout(WAIT_TIMEOUT, all).await.unwrap();
    let before = allocated();
    for number in 0..CHANGES {
        let lease = &leases[number as usize % leases.len()];
        let attributes = [("n", number.to_string())];
        lease.update(attributes).await.unwrap();
        let event = tokio::time::timeout(WAIT_TIMEOUT, events.next())
            .await
            .unwrap();
        assert_eq!(event.unwrap().kind(), "update");
    }
    let after = allocated();
    Allocated {
        allocations: (after.allocations - before.allocations) / CHANGES,
        bytes: (after.bytes - before.bytes) / CHANGES,
    }
}

/// A single test, so that nothing else allocates meanwhile; a single thread, so that no work is duplicated.
#[tokio::test]
async fn reading_allocates_nothing_and_a_change_no_more_in_a_big_set_than_in_a_small_one() {
    let (_client, leases, set) = fill(100).await;
    // The first read creates what later reads share.
    read(&set);
    let before = allocated();
    (0..1000).for_each(|_| read(&set));
    assert_eq!(allocated().allocations, before.allocations);
    let few = change(&leases, &set).await;

    let (_client, leases, set) = fill(3_000).await;
    let many = change(&leases, &set).await;
    println!("one change among 100: {few:?}; among 3000: {many:?}");
    // The tree of a set that is thirty times larger is slightly deeper.
    assert!(few.allocations <= MAX_PER_CHANGE.allocations, "{few:?}");
    assert!(few.bytes <= MAX_PER_CHANGE.bytes, "{few:?}");
    assert!(many.allocations <= few.allocations * 2, "{few:?} {many:?}");
    assert!(many.bytes <= few.bytes * 3, "{few:?} {many:?}");
}

/// The measured figures plus a tenth. A change that lowers the figures updates these constants.
const MAX_PER_CHANGE: Allocated = Allocated {
    allocations: 183,
    bytes: 16_650,
};
