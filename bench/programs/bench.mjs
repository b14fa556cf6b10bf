// The measured program in JavaScript; see README.md of the benchmarks. LIBDISCOVER_NODE names the package.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { parentPort, Worker } from 'node:worker_threads';

import { forEach, host, now, resident, report, stopped } from './protocol.mjs';

const bare = resident();
const before = now();
const require = createRequire(process.env.LIBDISCOVER_NODE);
const { connect } = require(process.env.LIBDISCOVER_NODE);
const loaded = { load: now() - before, bare, loaded: resident() };

const CHANGES = 200;

async function follow(url, count) {
  const started = now();
  const latencies = [];
  const downs = [];
  let waiting = count;
  let notified;
  const current = new Promise((done) => (notified = done));
  const onEvent = ({ kind, instance }) => {
    if (kind === 'up' || kind === 'update') {
      const { t } = instance.attributes;
      if (t !== undefined) {
        latencies.push(now() - Number(t));
      }
    } else if (kind === 'down') {
      downs.push(now());
    } else if (kind === 'current') {
      waiting -= 1;
      if (waiting === 0) {
        notified();
      }
    }
  };
  const client = await connect(url);
  const sets = Array.from({ length: count }, (_, number) => client.services(`bench-${number}`));
  const subscriptions = sets.map((set) => set.subscribe(onEvent));
  await current;
  report({ started, ready: now(), ...loaded });
  await stopped;
  report({ latencies, downs, online: sets.reduce((sum, set) => sum + set.online().length, 0) });
  subscriptions.forEach((subscription) => subscription.cancel());
  await client.close();
}

async function register(url, count) {
  const started = now();
  const client = await connect(url);
  const leases = [];
  await forEach(count, async (number) => {
    leases.push(await client.register({ service: 'bench-0', port: 1000, host: host(number) }));
  });
  report({ started, ready: now(), ...loaded });
  await stopped;
  await report({ registered: leases.length });
  process.exit(0);
}

/** Returns a call into the native module that does nothing. */
async function nothing(url) {
  const client = await require('./libdiscover.node').connect(url);
  client.attach(() => {});
  const feed = client.services('bench-0').feed(1);
  const noop = () => feed.cancel();
  noop();
  return noop;
}

let loops = 0;

/** Compiles a separate loop: a loop that has called several functions inlines none of them. */
function loop(body) {
  loops += 1;
  return new Function('call', 'rounds', `let kept; for (let at = 0; at < rounds; at += 1) ${body} return kept; // ${loops}`);
}

/** Returns the nanoseconds of one call: the minimum of several rounds, without the loop around it. */
function cost(call) {
  const rounds = 2_000_000;
  const time = (work) => {
    let least = Infinity;
    for (let round = 0; round < 7; round += 1) {
      const began = process.hrtime.bigint();
      if (work(call, rounds) === null) {
        return NaN;
      }
      least = Math.min(least, Number(process.hrtime.bigint() - began));
    }
    return least / rounds;
  };
  return time(loop('{ kept = call(); }')) - time(loop('{ kept = at; }'));
}

async function read(url) {
  const client = await connect(url);
  const leases = [];
  for (let number = 0; number < 10; number += 1) {
    leases.push(await client.register({ service: 'bench-0', port: 1000 + number, host: '10.0.0.1' }));
  }
  const set = client.services('bench-0');
  await set.wait(10, { timeout: 10_000 });
  const table = new Map(Array.from({ length: 1000 }, (_, number) => [`bench-${number}`, set]));
  const alone = {
    online: cost(() => set.online()),
    pick: cost(() => set.pick()),
    lookup: cost(() => table.get('bench-0').online()),
    noop: cost(await nothing(url)),
  };
  // In an engine of its own, which has compiled nothing yet.
  const reader = new Worker(fileURLToPath(import.meta.url), { argv: ['beside', url] });
  let beside;
  reader.once('message', (notified) => (beside = notified));
  for (let turn = 0; beside === undefined; turn += 1) {
    await leases[0].update({ turn: String(turn) });
    await new Promise((done) => setTimeout(done, 1)); // tidy: sleep, the interval of the writer
  }
  report({ ...alone, ...beside });
  await client.close();
}

/** Reads while another thread writes; notifications arrive between two turns of the event loop. */
async function beside(url) {
  const client = await connect(url);
  const set = client.services('bench-0');
  await set.wait(10, { timeout: 10_000 });
  const online = cost(() => set.online());
  await new Promise(setImmediate);
  parentPort.postMessage({ online_written: online, pick_written: cost(() => set.pick()) });
  await client.close();
}

/** Measures the median time from the writer's call to the last subscriber. */
async function scale(url, instances, listeners) {
  const client = await connect(url);
  const leases = [];
  await forEach(instances, async (number) => {
    leases.push(await client.register({ service: 'bench-0', port: 1000, host: host(number) }));
  });
  const set = client.services('bench-0');
  await set.wait(instances, { timeout: 60_000 });
  let [waiting, done] = [0, () => {}];
  const allNotified = () => {
    waiting = listeners;
    return new Promise((resolve) => (done = resolve));
  };
  const onEvent = ({ kind }) => {
    if (kind === 'update' || kind === 'current') {
      waiting -= 1;
      if (waiting === 0) {
        done();
      }
    }
  };
  const current = allNotified();
  const subscriptions = Array.from({ length: listeners }, () => set.subscribe(onEvent));
  await current;
  const took = [];
  for (let turn = 0; turn < CHANGES; turn += 1) {
    const began = now();
    const notified = allNotified();
    await leases[(turn * 7919) % instances].update({ turn: String(turn) });
    await notified;
    took.push(now() - began);
  }
  report({ took: took.sort((a, b) => a - b)[CHANGES / 2] });
  subscriptions.forEach((subscription) => subscription.cancel());
  await client.close({ timeout: 60_000 });
}

const [task, url, ...counts] = process.argv.slice(2);
await { follow, register, read, beside, scale }[task](url, ...counts.map(Number));
