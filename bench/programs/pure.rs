//! Benchmarks of the parts without I/O, alone and through the public API: layouts, views, diffs, picks, URLs. They use
//! no network and no other thread. See README.md of the benchmarks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use discover_bench::protocol::instance_host;
use discover_core::{
    Backend, Change, Changes, Client, ContainerPilot, Decoded, Embassy, Entry, Error, ErrorKind,
    GoMicro, Grant, Grpc, Key, Kratos, KvBackend, Layout, Native, Node, Policy, Registration,
    Registrator, Result, Scalingo, Scope, ServiceName, ServiceSet, Snapshot, Store, Terms, Url,
    View,
};
use divan::{Bencher, black_box};
use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

const SIZES: [u64; 3] = [10, 1000, 100_000];

fn main() {
    divan::main();
}

fn service() -> ServiceName {
    ServiceName::new("bench").expect("the name is valid")
}

/// Returns a registration of 150 bytes, a typical size.
fn registration(number: u64) -> Result<Registration> {
    Registration::new("bench", 1000)?
        .host(&instance_host(number))?
        .ttl(Duration::from_secs(10))
}

fn attributes(registration: Registration) -> Result<Registration> {
    registration.attributes([
        ("zone", "eu-central-1"),
        ("version", "1.4.2"),
        ("weight", "10"),
        ("commit", "9fceb02d0ae598e95dc970b74767f19372d61af8"),
    ])
}

fn node(entry: Entry, created: u64) -> Node {
    Node {
        key: entry.key,
        value: entry.value.into(),
        created,
        modified: created,
        owner: 0,
    }
}

/// Returns the node of an instance in a layout, with attributes if the layout supports them.
fn written(layout: &dyn Layout, number: u64) -> Result<Node> {
    let full = attributes(registration(number)?)?;
    let entries = layout.encode(&full);
    let entries = entries.or_else(|_| layout.encode(&registration(number)?))?;
    let prefix = layout.prefix(&service())?;
    let mut under = entries
        .into_iter()
        .filter(|e| e.key.strip_prefix(&prefix).is_some());
    let entry = under
        .next()
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, "no entry"))?;
    Ok(node(entry, number + 1))
}

fn layout(name: &str) -> Result<Box<dyn Layout>> {
    Ok(match name {
        "native" => Box::new(Native),
        "scalingo" => Box::new(Scalingo::new(Scalingo::PREFIX, Scalingo::INFOS)?),
        "containerpilot" => Box::new(ContainerPilot::new(ContainerPilot::PREFIX)?),
        "registrator" => Box::new(Registrator::new(Registrator::PREFIX)?),
        "embassy" => Box::new(Embassy::new(Embassy::PREFIX, Embassy::ENVIRONMENT)?),
        "grpc" => Box::new(Grpc::new(Grpc::PREFIX)?),
        "kratos" => Box::new(Kratos::new(Kratos::PREFIX)?),
        _ => Box::new(GoMicro::new(GoMicro::PREFIX)?),
    })
}

#[divan::bench(args = ["native", "scalingo", "containerpilot", "registrator", "embassy", "grpc", "kratos", "go-micro"])]
fn decode(bencher: Bencher<'_, '_>, name: &str) {
    let layout = layout(name).expect("its prefix is a path");
    let (service, node) = (service(), written(&*layout, 7).expect("it can be written"));
    let read = || layout.decode(&service, &node);
    assert!(
        matches!(read(), Decoded::Instance(_)),
        "{name}: {:?}",
        read()
    );
    bencher.bench(read);
}

#[divan::bench]
fn parse_url() -> Result<Url> {
    let url =
        "etcds://ann:secret@h1:2379,h2:2379,h3:2379/prefix?layout=native&ttl=10s&ca=/etc/ca.pem";
    Url::parse(black_box(url))
}

/// A store that emits the changes it receives on a channel.
struct ScriptedStore(Mutex<Option<mpsc::UnboundedReceiver<Changes>>>);

impl ScriptedStore {
    fn new() -> (Arc<ScriptedStore>, mpsc::UnboundedSender<Changes>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Arc::new(ScriptedStore(Mutex::new(Some(receiver)))), sender)
    }

    fn refuse<T: Send + 'static>() -> BoxFuture<'static, Result<T>> {
        ready(Err(Error::new(
            ErrorKind::Unsupported,
            "a scripted store can only be watched",
        )))
        .boxed()
    }
}

impl Store for ScriptedStore {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn get<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<Option<Node>>> {
        ScriptedStore::refuse()
    }

    fn list<'a>(&'a self, _: &'a Scope) -> BoxFuture<'a, Result<Vec<Node>>> {
        ScriptedStore::refuse()
    }

    fn create<'a>(&'a self, _: &'a [Entry], _: Terms) -> BoxFuture<'a, Result<Grant>> {
        ScriptedStore::refuse()
    }

    fn put<'a>(&'a self, _: &'a Entry, _: Option<&'a Node>) -> BoxFuture<'a, Result<bool>> {
        ScriptedStore::refuse()
    }

    fn renew<'a>(&'a self, _: &'a [Entry], _: Grant) -> BoxFuture<'a, Result<()>> {
        ScriptedStore::refuse()
    }

    fn update<'a>(&'a self, _: &'a [Entry], _: Grant) -> BoxFuture<'a, Result<()>> {
        ScriptedStore::refuse()
    }

    fn remove<'a>(&'a self, _: &'a [Entry], _: Grant) -> BoxFuture<'a, Result<()>> {
        ScriptedStore::refuse()
    }

    fn watch(&self, _: &Scope) -> BoxStream<'static, Result<Changes>> {
        let receiver = self.0.lock().ok().and_then(|mut store| store.take());
        let heard = receiver.map(|receiver| {
            stream::unfold(receiver, |mut receiver| async move {
                Some((Ok(receiver.recv().await?), receiver))
            })
        });
        stream::iter(heard)
            .flatten()
            .chain(stream::pending())
            .boxed()
    }
}

/// The views of a scripted store.
struct ViewFixture {
    runtime: Runtime,
    views: BoxStream<'static, Result<View>>,
    sender: mpsc::UnboundedSender<Changes>,
    revision: u64,
}

impl ViewFixture {
    fn new() -> ViewFixture {
        let (store, sender) = ScriptedStore::new();
        let backend = KvBackend::new(store, Arc::new(Native));
        ViewFixture {
            runtime: runtime(),
            views: backend.subscribe(&service(), View::default()),
            sender,
            revision: 0,
        }
    }

    fn apply(&mut self, change: Change) -> View {
        self.revision += 1;
        send(&self.sender, self.revision, change);
        let view = self.runtime.block_on(self.views.next());
        view.expect("the stream does not end")
            .expect("the stream does not fail")
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("the runtime starts")
}

fn send(sender: &mpsc::UnboundedSender<Changes>, revision: u64, change: Change) {
    let changes = vec![change];
    let changes = Changes {
        epoch: 0,
        revision,
        changes,
    };
    sender.send(changes).expect("the store is watched");
}

fn all(size: u64) -> Change {
    let nodes = (0..size).map(|number| written(&Native, number));
    Change::Reset(nodes.collect::<Result<_>>().expect("they can be written"))
}

/// Returns a change of the instance in the middle.
fn one(size: u64, turn: u64) -> Change {
    let mut node = written(&Native, size / 2).expect("it can be written");
    node.value = format!("{{\"zone\":\"eu-central-1\",\"turn\":\"{turn}\"}}")
        .into_bytes()
        .into();
    node.modified = size + turn;
    Change::Put(node)
}

#[divan::bench(args = SIZES)]
fn fold_all(bencher: Bencher<'_, '_>, size: u64) {
    let nodes = all(size);
    let fresh = || (ViewFixture::new(), nodes.clone());
    bencher
        .with_inputs(fresh)
        .bench_local_values(|(mut views, all)| {
            let view = views.apply(all);
            assert_eq!(view.instances.len() as u64, size);
            (views, view)
        });
}

#[divan::bench(args = SIZES)]
fn fold_one(bencher: Bencher<'_, '_>, size: u64) {
    let mut views = ViewFixture::new();
    views.apply(all(size));
    let mut turn = 0;
    let next = || {
        turn += 1;
        one(size, turn)
    };
    bencher
        .with_inputs(next)
        .bench_local_values(|one| views.apply(one));
}

/// Returns a set of this many instances after one change, with the snapshot before the change.
fn set(size: u64) -> (Runtime, ServiceSet, Arc<Snapshot>) {
    let (store, sender) = ScriptedStore::new();
    let backend: Arc<dyn Backend> = Arc::new(KvBackend::new(store, Arc::new(Native)));
    let runtime = runtime();
    let known = move |_: &Url| Ok(backend.clone());
    let client = Client::builder()
        .backend("scripted", known)
        .url("scripted://here");
    let (set, before) = runtime.block_on(async {
        let client = client.connect().await.expect("the store is available");
        let set = client.services("bench").expect("the name is valid");
        let mut cursor = set.cursor();
        send(&sender, 1, all(size));
        while set.snapshot().revision() < 1 {
            cursor.changed().await;
        }
        let before = set.snapshot();
        send(&sender, 2, one(size, 1));
        while set.snapshot().revision() < 2 {
            cursor.changed().await;
        }
        // Kept until the process exits.
        std::mem::forget((client, sender));
        (set, before)
    });
    (runtime, set, before)
}

#[divan::bench(args = SIZES)]
fn diff(bencher: Bencher<'_, '_>, size: u64) {
    let (_runtime, set, before) = set(size);
    let drain = || set.cursor_from(before.clone()).drain();
    assert_eq!(drain().len(), 1);
    bencher.bench_local(drain);
}

#[divan::bench(args = Policy::NAMES, consts = [10, 1000])]
fn pick<const SIZE: u64>(bencher: Bencher<'_, '_>, policy: &str) {
    let (_runtime, set, _) = set(SIZE);
    let key = (policy == "hash").then_some("ann");
    let policy = Policy::parse(policy, key).expect("it is one of the names");
    bencher.bench_local(|| {
        let picked = set.pick(policy);
        if let Some(picked) = picked.as_ref().filter(|_| policy == Policy::P2c) {
            set.done(picked);
        }
        picked
    });
}

/// From `unregister` until the set shows the removal, on `memory://` with this many instances.
#[divan::bench(args = [1, 10, 1000], sample_size = 1, sample_count = 500)]
fn remove_one(bencher: Bencher<'_, '_>, size: u64) {
    let runtime = runtime();
    let (client, set, _others) = runtime
        .block_on(async {
            let client = Client::connect(&format!("memory://bench-remove-{size}")).await?;
            let set = client.services("bench")?;
            let mut others = Vec::new();
            for number in 1..size {
                others.push(client.register(registration(number)?).await?);
            }
            Ok::<_, Error>((client, set, others))
        })
        .expect("memory:// is always available");
    let add = || {
        let added = runtime.block_on(async {
            let lease = client.register(registration(size)?).await?;
            set.wait(size as usize, Duration::from_secs(5)).await?;
            Ok::<_, Error>((lease, set.cursor()))
        });
        added.expect("memory:// is always available")
    };
    bencher
        .with_inputs(add)
        .bench_local_values(|(lease, mut cursor)| {
            runtime.block_on(async {
                lease
                    .unregister()
                    .await
                    .expect("the instance is registered");
                while set.snapshot().online().len() as u64 == size {
                    cursor.changed().await;
                }
            });
            (lease, cursor)
        });
}
