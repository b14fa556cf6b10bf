//! Lists that wait for their turn are asked for together, in one transaction: who follows a thousand
//! services, or has registered ten thousand instances, would otherwise ask as often. One that comes alone
//! goes at once. What is written never goes together: who is older than whom is told by the revision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, GetOptions, GetResponse, KvClient, Txn, TxnOp, TxnOpResponse};
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::Scope;
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v3::error::request_error;
use crate::store::etcd::v3::revision;
use crate::watch_sync::{Input, KeyRevisions, Listing, RangeId};

/// How long a list may take. A dead link is noticed long before.
const LIST: Duration = Duration::from_secs(60);
/// How many requests are under way at once; each has buffers of forty kilobytes.
const AT_ONCE: usize = 4;
/// How many go together. Etcd takes 128 unless it is told otherwise; what it refuses goes one by one.
const MOST: usize = 100;

/// A part that is to be listed.
pub(super) struct Read {
    pub(super) id: RangeId,
    pub(super) scope: Scope,
    /// Only the keys, to compare them.
    pub(super) only_keys: bool,
}

/// Lists what is asked for, and tells the answers, for as long as anybody may ask.
pub(super) async fn read(
    config: Arc<EtcdConfig>,
    client: Client,
    inbox: mpsc::UnboundedReceiver<Read>,
    tell: impl Fn(Input),
) {
    let kv = client.kv_client().max_decoding_message_size(usize::MAX);
    let answer = |batch: Vec<Read>| Box::pin(answer(&config, kv.clone(), batch));
    let batches = stream::unfold(inbox, async |mut inbox| {
        let mut batch = Vec::new();
        let some = inbox.recv_many(&mut batch, MOST).await > 0;
        some.then_some((batch, inbox))
    });
    let answers = batches
        .map(answer)
        .buffer_unordered(AT_ONCE)
        .flat_map(stream::iter);
    answers.for_each(async |answer| tell(answer)).await;
}

async fn answer(config: &EtcdConfig, mut kv: KvClient, batch: Vec<Read>) -> Vec<Input> {
    let mut inputs = Vec::with_capacity(batch.len());
    let together = ask(config, &mut kv, &batch).await;
    let refused = matches!(&together, Err(error) if !is_away(error));
    if refused && batch.len() > 1 {
        // Which of them, they find out each for itself.
        for one in &batch {
            let asked = ask(config, &mut kv, std::slice::from_ref(one)).await;
            inputs.extend(said(config, std::slice::from_ref(one), asked));
        }
    } else {
        inputs.extend(said(config, &batch, together));
    }
    inputs
}

/// Everything in each scope at one revision, in one shot: a page costs the server as much as all that
/// follow it.
async fn ask(
    config: &EtcdConfig,
    kv: &mut KvClient,
    batch: &[Read],
) -> Result<(u64, Vec<GetResponse>)> {
    let slow = |_| {
        let text = format!("{}: no listing within {LIST:?}", config.peer(None));
        Err(Error::new(ErrorKind::Timeout, text))
    };
    let asked = async {
        if let [only] = batch {
            let (key, options) = options(config, only);
            let answer = kv.get(key, Some(options)).await?;
            let revision = answer.header().map_or(0, |header| header.revision()) as u64;
            return Ok((revision, vec![answer]));
        }
        let get = |read: &Read| {
            let (key, options) = options(config, read);
            TxnOp::get(key, Some(options))
        };
        let gets: Vec<TxnOp> = batch.iter().map(get).collect();
        let answer = kv.txn(Txn::new().and_then(gets)).await?;
        let got = answer
            .op_responses()
            .into_iter()
            .filter_map(|one| match one {
                TxnOpResponse::Get(got) => Some(got),
                _ => None,
            });
        Ok((revision(&answer), got.collect()))
    };
    let keys_read = || {
        let scopes = batch.iter().map(|read| config.scope_name(&read.scope));
        scopes.collect::<Vec<_>>().join(", ")
    };
    let explained = async {
        asked
            .await
            .map_err(|e| request_error(config, &keys_read(), &e))
    };
    timeout(LIST, explained).await.unwrap_or_else(slow)
}

fn options(config: &EtcdConfig, read: &Read) -> (Vec<u8>, GetOptions) {
    let (key, is_prefix) = config.range(&read.scope);
    let mut options = GetOptions::new();
    if is_prefix {
        options = options.with_prefix().with_limit(config.most as i64);
    }
    if read.only_keys {
        options = options.with_keys_only();
    }
    (key, options)
}

fn said(config: &EtcdConfig, batch: &[Read], asked: Result<(u64, Vec<GetResponse>)>) -> Vec<Input> {
    let (revision, answers) = match asked {
        Ok(answers) => answers,
        Err(error) => {
            let failed = |read: &Read| match read.only_keys {
                true => Input::Compared(read.id, Err(error.clone())),
                false => Input::Listed(read.id, Err(error.clone())),
            };
            return batch.iter().map(failed).collect();
        }
    };
    let each = batch.iter().zip(answers);
    each.map(|(read, answer)| match read.only_keys {
        true => Input::Compared(read.id, keys(config, revision, answer)),
        false => Input::Listed(read.id, listing(config, revision, answer)),
    })
    .collect()
}

fn listing(config: &EtcdConfig, revision: u64, mut answer: GetResponse) -> Result<Listing> {
    check(config, &answer)?;
    let nodes = config.nodes(answer.take_kvs());
    Ok(Listing { revision, nodes })
}

fn keys(config: &EtcdConfig, revision: u64, answer: GetResponse) -> Result<KeyRevisions> {
    check(config, &answer)?;
    let modified = answer
        .kvs()
        .iter()
        .filter_map(|kv| Some((config.key(kv.key())?, kv.mod_revision() as u64)))
        .collect::<BTreeMap<_, _>>();
    Ok(KeyRevisions { revision, modified })
}

fn check(config: &EtcdConfig, answer: &GetResponse) -> Result<()> {
    match answer.more() {
        true => Err(config.too_many(answer.count())),
        false => Ok(()),
    }
}

/// Whether nobody answered, so that it cannot be one of the requests.
fn is_away(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}
