//! Lists for the watches, batched into transactions: a client that watches a thousand services or has
//! registered ten thousand instances would otherwise send as many requests. A single list is sent at once.
//! Writes are never batched, because the revision decides which instance is older.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, GetOptions, GetResponse, Txn, TxnOp, TxnOpResponse};
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::kv::Scope;
use crate::store::etcd::config::EtcdConfig;
use crate::store::etcd::v3::connect::Connection;
use crate::store::etcd::v3::error::request_error;
use crate::store::etcd::v3::revision;
use crate::watch_sync::{Input, KeyRevisions, Listing, RangeId};

/// A list fails if nothing is received for this long. A dead connection is detected long before.
const LIST_SILENCE: Duration = Duration::from_secs(30);
/// Maximum number of concurrent requests; each has buffers of 40 kB.
const MAX_CONCURRENT_BATCHES: usize = 4;
/// Maximum number of lists in a transaction. etcd's default limit is 128; a refused batch is sent one by
/// one.
const MAX_BATCH: usize = 100;

/// A request for a list of a range.
pub(super) struct ReadRequest {
    pub(super) id: RangeId,
    pub(super) scope: Scope,
    /// Whether to list the keys only, for an audit.
    pub(super) keys_only: bool,
}

/// Serves list requests until the sender is dropped.
pub(super) async fn serve(
    config: Arc<EtcdConfig>,
    connection: Connection,
    inbox: mpsc::UnboundedReceiver<ReadRequest>,
    send_event: impl Fn(Input),
) {
    let answer = |batch: Vec<ReadRequest>| Box::pin(serve_batch(&config, &connection, batch));
    let batches = stream::unfold(inbox, async |mut inbox| {
        let mut batch = Vec::new();
        let some = inbox.recv_many(&mut batch, MAX_BATCH).await > 0;
        some.then_some((batch, inbox))
    });
    let answers = batches
        .map(answer)
        .buffer_unordered(MAX_CONCURRENT_BATCHES)
        .flat_map(stream::iter);
    answers.for_each(async |answer| send_event(answer)).await;
}

async fn serve_batch(
    config: &EtcdConfig,
    connection: &Connection,
    batch: Vec<ReadRequest>,
) -> Vec<Input> {
    let mut inputs = Vec::with_capacity(batch.len());
    let response = send_batch(config, connection, &batch).await;
    let refused = matches!(&response, Err(error) if !is_unreachable(error));
    if refused && batch.len() > 1 {
        // Finds out which of the requests was refused.
        for request in &batch {
            let responses = send_batch(config, connection, std::slice::from_ref(request)).await;
            inputs.extend(inputs_of(config, std::slice::from_ref(request), responses));
        }
    } else {
        inputs.extend(inputs_of(config, &batch, response));
    }
    inputs
}

/// Lists each scope completely at one revision. A page would cost the server as much as all pages that
/// follow it.
async fn send_batch(
    config: &EtcdConfig,
    connection: &Connection,
    batch: &[ReadRequest],
) -> Result<(u64, Vec<GetResponse>)> {
    let slow = || {
        let text = format!(
            "{}: no part of a list for {LIST_SILENCE:?}",
            config.peer(None)
        );
        Err(Error::new(ErrorKind::Timeout, text))
    };
    let responses = connection.call(|client| read(config, client, batch));
    let keys_read = || {
        let scopes = batch.iter().map(|read| config.scope_name(&read.scope));
        scopes.collect::<Vec<_>>().join(", ")
    };
    let explained = async {
        responses
            .await
            .map_err(|e| request_error(config, &keys_read(), &e))
    };
    let listed = connection.stats.transfer(LIST_SILENCE, explained).await;
    listed.unwrap_or_else(slow)
}

async fn read(
    config: &EtcdConfig,
    client: Client,
    batch: &[ReadRequest],
) -> Result<(u64, Vec<GetResponse>), etcd_client::Error> {
    let mut kv = client.kv_client().max_decoding_message_size(usize::MAX);
    if let [only] = batch {
        let (key, options) = options(config, only);
        let answer = kv.get(key, Some(options)).await?;
        let revision = answer.header().map_or(0, |header| header.revision()) as u64;
        return Ok((revision, vec![answer]));
    }
    let get = |read: &ReadRequest| {
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
}

fn options(config: &EtcdConfig, read: &ReadRequest) -> (Vec<u8>, GetOptions) {
    let (key, is_prefix) = config.range(&read.scope);
    let mut options = GetOptions::new();
    if is_prefix {
        options = options.with_prefix().with_limit(config.max_keys as i64);
    }
    if read.keys_only {
        options = options.with_keys_only();
    }
    (key, options)
}

fn inputs_of(
    config: &EtcdConfig,
    batch: &[ReadRequest],
    responses: Result<(u64, Vec<GetResponse>)>,
) -> Vec<Input> {
    let (revision, answers) = match responses {
        Ok(answers) => answers,
        Err(error) => {
            let failed = |read: &ReadRequest| match read.keys_only {
                true => Input::KeysListed(read.id, Err(error.clone())),
                false => Input::Listed(read.id, Err(error.clone())),
            };
            return batch.iter().map(failed).collect();
        }
    };
    let each = batch.iter().zip(answers);
    each.map(|(read, answer)| match read.keys_only {
        true => Input::KeysListed(read.id, keys(config, revision, answer)),
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

/// Returns true if the store did not respond, so that no single request can be the cause.
fn is_unreachable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}
