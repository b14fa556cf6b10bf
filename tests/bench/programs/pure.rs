//! What the pure parts take, alone and through the public API: layouts, folding, differences, choosing, URLs.
//! No network and no other thread comes between. See README.md beside the programs.

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
    ServiceName::new("bench").expect("it is a name")
}

/// One of a hundred and fifty bytes, as most are.
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

/// The node of an instance in a layout, with attributes where it has room for them.
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

/// A store that tells what it is given, at once.
struct Tape(Mutex<Option<mpsc::UnboundedReceiver<Changes>>>);

impl Tape {
    fn new() -> (Arc<Tape>, mpsc::UnboundedSender<Changes>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Arc::new(Tape(Mutex::new(Some(receiver)))), sender)
    }

    fn refuse<T: Send + 'static>() -> BoxFuture<'static, Result<T>> {
        ready(Err(Error::new(
            ErrorKind::Unsupported,
            "a tape is only heard",
        )))
        .boxed()
    }
}

impl Store for Tape {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn get<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<Option<Node>>> {
        Tape::refuse()
    }

    fn list<'a>(&'a self, _: &'a Scope) -> BoxFuture<'a, Result<Vec<Node>>> {
        Tape::refuse()
    }

    fn create<'a>(&'a self, _: &'a [Entry], _: Terms) -> BoxFuture<'a, Result<Grant>> {
        Tape::refuse()
    }

    fn put<'a>(&'a self, _: &'a Entry, _: Option<&'a Node>) -> BoxFuture<'a, Result<bool>> {
        Tape::refuse()
    }

    fn renew<'a>(&'a self, _: &'a [Entry], _: Grant) -> BoxFuture<'a, Result<()>> {
        Tape::refuse()
    }

    fn update<'a>(&'a self, _: &'a [Entry], _: Grant) -> BoxFuture<'a, Result<()>> {
        Tape::refuse()
    }

    fn remove<'a>(&'a self, _: &'a [Entry], _: Grant) -> BoxFuture<'a, Result<()>> {
        Tape::refuse()
    }

    fn watch(&self, _: &Scope) -> BoxStream<'static, Result<Changes>> {
        let receiver = self.0.lock().ok().and_then(|mut tape| tape.take());
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

/// Views that follow a tape.
struct Line {
    runtime: Runtime,
    views: BoxStream<'static, Result<View>>,
    tell: mpsc::UnboundedSender<Changes>,
    revision: u64,
}

impl Line {
    fn new() -> Line {
        let (tape, tell) = Tape::new();
        let backend = KvBackend::new(tape, Arc::new(Native));
        Line {
            runtime: runtime(),
            views: backend.subscribe(&service(), View::default()),
            tell,
            revision: 0,
        }
    }

    fn hear(&mut self, change: Change) -> View {
        self.revision += 1;
        send(&self.tell, self.revision, change);
        let view = self.runtime.block_on(self.views.next());
        view.expect("it never ends").expect("it never fails")
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_time()
        .build()
        .expect("there is room for one")
}

fn send(tell: &mpsc::UnboundedSender<Changes>, revision: u64, change: Change) {
    let changes = vec![change];
    let changes = Changes {
        epoch: 0,
        revision,
        changes,
    };
    tell.send(changes).expect("somebody hears");
}

fn all(size: u64) -> Change {
    let nodes = (0..size).map(|number| written(&Native, number));
    Change::Reset(nodes.collect::<Result<_>>().expect("they can be written"))
}

/// Another value of the instance in the middle.
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
    let fresh = || (Line::new(), nodes.clone());
    bencher
        .with_inputs(fresh)
        .bench_local_values(|(mut line, all)| {
            let view = line.hear(all);
            assert_eq!(view.instances.len() as u64, size);
            (line, view)
        });
}

#[divan::bench(args = SIZES)]
fn fold_one(bencher: Bencher<'_, '_>, size: u64) {
    let mut line = Line::new();
    line.hear(all(size));
    let mut turn = 0;
    let next = || {
        turn += 1;
        one(size, turn)
    };
    bencher
        .with_inputs(next)
        .bench_local_values(|one| line.hear(one));
}

/// A set that has heard of so many, and then of one change; and what it was before that.
fn set(size: u64) -> (Runtime, ServiceSet, Arc<Snapshot>) {
    let (tape, tell) = Tape::new();
    let backend: Arc<dyn Backend> = Arc::new(KvBackend::new(tape, Arc::new(Native)));
    let runtime = runtime();
    let known = move |_: &Url| Ok(backend.clone());
    let client = Client::builder().backend("tape", known).url("tape://here");
    let (set, before) = runtime.block_on(async {
        let client = client.connect().await.expect("it is there");
        let set = client.services("bench").expect("it is a name");
        let mut cursor = set.cursor();
        send(&tell, 1, all(size));
        while set.snapshot().revision() < 1 {
            cursor.changed().await;
        }
        let before = set.snapshot();
        send(&tell, 2, one(size, 1));
        while set.snapshot().revision() < 2 {
            cursor.changed().await;
        }
        // It goes with the process.
        std::mem::forget((client, tell));
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
