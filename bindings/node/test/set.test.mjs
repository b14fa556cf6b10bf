import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { connect } from 'libdiscover';
import { memory, open, until } from './helpers.mjs';

const at = (port, rest = {}) => ({ service: 'web', host: '127.0.0.1', port, ...rest });
const ports = (instances) => [...instances].map((instance) => instance.port);

/** Returns a set with an instance at each port. */
async function setOf(t, ...registrations) {
  const client = await open(t);
  for (const registration of registrations) {
    await client.register(registration);
  }
  const web = client.services('web');
  await web.wait(registrations.length, { timeout: 10_000 });
  return { client, web };
}

test('a set is pending and empty before its first view, then current', async (t) => {
  const client = await open(t);
  const web = client.services('web');
  assert.equal(web.service, 'web');
  assert.deepEqual([web.online(), web.offline(), web.leader()], [[], [], null]);
  assert.deepEqual(await web.wait(0, { timeout: 10_000 }), []);
  const { state, error, since, invalid } = web.status();
  assert.deepEqual([state, error, since, invalid], ['current', null, null, 0]);
});

test('online returns the same frozen array of frozen instances until one changes', async (t) => {
  const { client, web } = await setOf(t, at(1), at(2));
  const before = web.online();
  assert.deepEqual(ports(before), [1, 2]);
  assert.deepEqual(ports(web), [1, 2]);
  const [instance] = before;
  for (const part of [before, instance, instance.attributes, instance.tags]) {
    assert.ok(Object.isFrozen(part));
  }
  // A change of another service does not change this set.
  await client.register({ service: 'other', address: '127.0.0.1:1' });
  await client.services('other').wait(1, { timeout: 10_000 });
  assert.equal(web.online(), before);
  await client.register(at(3));
  await until(() => web.online().length === 3);
  assert.notEqual(web.online(), before);
  assert.equal(web.online()[0], instance);
  assert.deepEqual(ports(before), [1, 2]);
});

test('a set never changes within a turn of the event loop', async (t) => {
  const { client, web } = await setOf(t, at(1));
  const lease = await client.register(at(2));
  await until(() => web.online().length === 2);
  const before = web.online();
  const gone = lease.unregister();
  const deadline = Date.now() + 100;
  while (Date.now() < deadline) {
    assert.equal(web.online(), before);
  }
  await gone;
  await until(() => web.online().length === 1);
});

test('a snapshot is consistent and contains the leader and the offline instances', async (t) => {
  const { client, web } = await setOf(t, at(1), at(2));
  const lease = await client.register(at(3));
  await until(() => web.online().length === 3);
  await lease.unregister();
  await until(() => web.online().length === 2);
  const snapshot = web.snapshot();
  assert.ok(Object.isFrozen(snapshot));
  assert.equal(snapshot.state, 'current');
  assert.equal(snapshot.online, web.online());
  assert.equal(snapshot.leader, web.online()[0]);
  assert.equal(snapshot.leader.port, 1);
  const [offline] = snapshot.offline;
  assert.deepEqual([offline.instance.port, offline.reason], [3, 'removed']);
  assert.ok(offline.at instanceof Date && Math.abs(Date.now() - offline.at) < 60_000);
  await client.close();
  assert.equal(snapshot.online.length, 2);
});

test('the oldest leads, and the next oldest after it', async (t) => {
  const client = await open(t);
  const web = client.services('web');
  const first = await client.register(at(9));
  await client.register(at(1));
  await web.wait(2, { timeout: 10_000 });
  assert.equal(web.leader().port, 9);
  await first.unregister();
  await until(() => web.leader().port === 1);
});

test('a filter matches instances with all attributes and tags, and can be filtered again', async (t) => {
  const eu = { attributes: { zone: 'eu' }, tags: ['a', 'b'] };
  const { client, web } = await setOf(t, at(1, eu), at(2, { attributes: { zone: 'us' } }), at(3, { tags: ['a'] }));
  assert.deepEqual(ports(web.filter({ attributes: { zone: 'eu' } })), [1]);
  assert.deepEqual(ports(web.filter({ tags: ['a'] })), [1, 3]);
  assert.deepEqual(ports(web.filter({ tags: ['a'] }).filter({ tags: ['b'] })), [1]);
  assert.deepEqual(ports(web.filter({})), [1, 2, 3]);
  assert.deepEqual(ports(web.filter(Object.create(null))), [1, 2, 3]);
  for (const notPlain of [new Map([['tags', ['a']]]), { attributes: new Map([['zone', 'eu']]) }]) {
    assert.throws(() => web.filter(notPlain), /must be a plain object/);
  }
  const before = web.filter({ tags: ['a'] });
  const online = before.online();
  await client.register(at(4));
  await until(() => web.online().length === 4);
  assert.equal(before.online(), online);
});

test('wait ends at its timeout or with its signal', async (t) => {
  const { client, web } = await setOf(t, at(1));
  assert.deepEqual(ports(await web.wait(1, { timeout: 0 })), [1]);
  const late = { code: 'ERR_DISCOVER_TIMEOUT', retriable: true, message: /1 of 2 instances of web/ };
  await assert.rejects(web.wait(2, { timeout: 20 }), late);
  const abort = new AbortController();
  const waiting = web.wait(2, { timeout: 60_000, signal: abort.signal });
  abort.abort(new Error('enough'));
  const aborted = { name: 'AbortError', code: 'ABORT_ERR', cause: abort.signal.reason };
  await assert.rejects(waiting, aborted);
  await assert.rejects(web.wait(1, { timeout: 60_000, signal: abort.signal }), aborted);
  const found = web.wait(2, { timeout: 10_000, signal: new AbortController().signal });
  await client.register(at(2));
  assert.deepEqual(ports(await found), [1, 2]);
});

test('pick selects by policy', async (t) => {
  const heavy = { attributes: { weight: '0' } };
  const { web } = await setOf(t, at(1), at(2), at(3, heavy));
  assert.deepEqual(ports([web.pick(), web.pick(), web.pick(), web.pick('round_robin')]), [1, 2, 1, 2]);
  assert.equal(web.pick(), web.online()[0]);
  assert.ok([1, 2].includes(web.pick('random').port));
  assert.ok([1, 2].includes(web.pick('weighted').port));
  assert.equal(web.pick('hash', 'user-17'), web.pick('hash', 'user-17'));
  assert.equal(web.filter({ tags: ['none'] }).pick(), null);
});

test('no policy picks an instance that takes no calls', async (t) => {
  const draining = { attributes: { health: 'draining' } };
  const { web } = await setOf(t, at(1), at(2, draining), at(3));
  assert.deepEqual(ports([web.pick(), web.pick(), web.pick()]), [1, 3, 1]);
  assert.ok([1, 3].includes(web.pick('random').port));
  assert.equal(web.filter({ attributes: { health: 'draining' } }).pick(), null);
});

test('p2c counts calls in progress until they are done', async (t) => {
  const { web } = await setOf(t, at(1), at(2));
  const picked = Array.from({ length: 100 }, () => web.pick('p2c'));
  assert.equal(picked.filter((instance) => instance.port === 1).length, 50);
  picked.filter((instance) => instance.port === 1).forEach((instance) => web.done(instance));
  const more = Array.from({ length: 50 }, () => web.pick('p2c'));
  assert.deepEqual([...new Set(ports(more))], [1]);
});

test('a set can be read after the client is closed, even for the first time', async () => {
  const client = await connect(memory());
  const [read, never] = [client.services('web'), client.services('web')];
  await client.register(at(1));
  await read.wait(1, { timeout: 10_000 });
  await client.close();
  assert.deepEqual(ports(read), [1]);
  assert.deepEqual(ports(never), [1]);
  assert.equal(never.pick().port, 1);
});

test('an unreferenced set is garbage collected', async (t) => {
  const client = await open(t);
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  let gone = false;
  const registry = new FinalizationRegistry(() => (gone = true));
  (() => {
    const web = client.services('web');
    assert.deepEqual(web.online(), []);
    registry.register(web, 'web');
  })();
  await until(() => {
    collect();
    return gone;
  });
});
