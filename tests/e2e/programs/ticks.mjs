// Measures the delay of timers while calls of the library wait for a store that does not respond.
//
//     ticks.mjs PACKAGE dying|dead URL
//
// Prints "ready" when its clients are open, continues after a line on standard input, when the store no longer
// responds, and prints a line of JSON for each call.

import { once } from 'node:events';

const [from, state, url] = process.argv.slice(2);
const { connect } = await import(from);

const ATTEMPTS = 10;
/** The most additional delay of a timer compared with an idle loop, in milliseconds. */
const MAX_ADDED_DELAY_MS = 20;
const CALL_TIMEOUT_MS = 300;

/** Returns the longest time between two ticks of a timer during `work`. */
async function longestTurn(work) {
  let longest = 0;
  let last = performance.now();
  const tick = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  };
  const timer = setInterval(tick, 1);
  await work();
  await pause(2); // Records a late tick.
  clearInterval(timer);
  return longest;
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms)); // tidy: sleep, no call is in progress
}

/** Compares a call with the same time spent idle. A call that blocks the loop fails every attempt. */
async function measure(call, work) {
  let facts;
  for (let attempts = 1; attempts <= ATTEMPTS; attempts += 1) {
    const begin = performance.now();
    // The call fails because the store does not respond; neither the failure nor its duration is measured.
    const ours = await longestTurn(() => Promise.race([Promise.resolve(work()).catch(() => {}), pause(2 * CALL_TIMEOUT_MS)]));
    const took = performance.now() - begin;
    const quiet = await longestTurn(() => pause(Math.max(took, 50)));
    facts = { call, blocked: ours > quiet + MAX_ADDED_DELAY_MS, ours, quiet, took, attempts };
    if (!facts.blocked) {
      break;
    }
  }
  console.log(JSON.stringify(facts));
}

/** Makes the calls that do not wait. */
async function read(web) {
  for (let n = 0; n < 100; n += 1) {
    [web.online(), web.offline(), web.leader(), web.pick(), web.status(), web.snapshot()];
    web.filter({ attributes: { zone: 'eu' } });
    web.subscribe(() => {}).cancel();
    web.watch().cancel();
    await new Promise(setImmediate);
  }
}

const how = state === 'dying' ? 'ttl=30s' : 'ttl=30s&lazy=true';
const clients = await Promise.all(Array.from({ length: 2 * ATTEMPTS }, () => connect(`${url}?${how}`)));
const [client] = clients;
const web = client.services('web');
const register = (one, n) => one.register({ service: 'web', address: `h:${n + 1}` });
const leases = state === 'dying' ? await Promise.all(clients.map(register)) : [];
console.log('ready');
await once(process.stdin, 'data');

// First, before the leases lapse.
await measure('close', () => clients.pop().close({ timeout: CALL_TIMEOUT_MS }));
await measure('connect', () => connect(`${url}?connect_timeout=300ms`));
await measure('register', () => client.register({ service: 'web', address: 'h:999', timeout: CALL_TIMEOUT_MS }));
await measure('services and wait', () => client.services('other').wait(9, { timeout: CALL_TIMEOUT_MS }));
await measure('reads', () => read(web));
await measure('watch', async () => {
  for await (const _ of client.services('web').watch({ signal: AbortSignal.timeout(CALL_TIMEOUT_MS) }));
});
if (leases.length > 0) {
  await measure('heartbeat', () => leases[0].heartbeat());
  await measure('update', () => leases[0].update({ n: '1' }));
  await measure('unregister', () => leases.splice(1, 1)[0].unregister());
}
// Closing waits for the remaining requests, by design.
await Promise.all(clients.map((one) => one.close({ timeout: CALL_TIMEOUT_MS }).catch(() => {})));
process.stdin.destroy();
