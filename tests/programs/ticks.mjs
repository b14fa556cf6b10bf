// Measures how late timers are while calls of ours wait for a dead store.
//
//     ticks.mjs PACKAGE dying|dead URL
//
// Says "ready" once its clients are open, goes on when told to, by when the store is dead, and writes a
// line of JSON for each call.

import { once } from 'node:events';

const [from, state, url] = process.argv.slice(2);
const { connect } = await import(from);

const ATTEMPTS = 10;
/** How much longer than without us a timer may be late, in milliseconds. */
const ALLOWED = 20;
const SHORT = 300;

/** The longest time between two ticks of a timer while `work` is under way. */
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
  await pause(2); // What came late is seen.
  clearInterval(timer);
  return longest;
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms)); // tidy: sleep, nothing of ours is under way
}

/** Compares with the same time spent idle. What really stops the loop does so each time. */
async function judge(call, work) {
  let facts;
  for (let attempts = 1; attempts <= ATTEMPTS; attempts += 1) {
    const begin = performance.now();
    // The store is dead, so it fails, and that is not what is measured. Nor is how long that takes.
    const ours = await longestTurn(() => Promise.race([Promise.resolve(work()).catch(() => {}), pause(2 * SHORT)]));
    const took = performance.now() - begin;
    const quiet = await longestTurn(() => pause(Math.max(took, 50)));
    facts = { call, blocked: ours > quiet + ALLOWED, ours, quiet, took, attempts };
    if (!facts.blocked) {
      break;
    }
  }
  console.log(JSON.stringify(facts));
}

/** All that does not wait. */
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

// First, while what its leases await has not lapsed.
await judge('close', () => clients.pop().close({ timeout: SHORT }));
await judge('connect', () => connect(`${url}?connect_timeout=300ms`));
await judge('register', () => client.register({ service: 'web', address: 'h:999', timeout: SHORT }));
await judge('services and wait', () => client.services('other').wait(9, { timeout: SHORT }));
await judge('reads', () => read(web));
await judge('watch', async () => {
  for await (const _ of client.services('web').watch({ signal: AbortSignal.timeout(SHORT) }));
});
if (leases.length > 0) {
  await judge('heartbeat', () => leases[0].heartbeat());
  await judge('update', () => leases[0].update({ n: '1' }));
  await judge('unregister', () => leases.splice(1, 1)[0].unregister());
}
// Leaving waits for what is left, and that is meant so.
await Promise.all(clients.map((one) => one.close({ timeout: SHORT }).catch(() => {})));
process.stdin.destroy();
