// A service in the model of etcd-discovery. Each language has this test.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { scalingo } from 'libdiscover';
import { open } from './helpers.mjs';

const PUBLIC = { public: 'true', hostname: 'api.dev', 'ports.https': '443', user: 'u', password: 'p@' };

function assertPublicHost(host) {
  assert.deepEqual({ ...host }, {
    serviceName: 'api',
    uuid: 'b:80',
    hostname: 'api.dev',
    privateHostname: 'b',
    ports: { https: 443 },
    privatePorts: { http: 80 },
    user: 'u',
    password: 'p@',
    shard: '',
    isPublic: true,
    isCritical: false,
  });
  assert.ok(Object.isFrozen(host) && Object.isFrozen(host.ports));
  assert.equal(host.url('', '/x'), 'https://u:p%40@api.dev:443/x');
  assert.equal(host.privateUrl('http'), 'http://u:p%40@b:80');
  const refused = { code: 'ERR_DISCOVER_INVALID_ARGUMENT', message: /it has https/ };
  assert.throws(() => host.url('ftp'), refused);
}

test('hosts have urls and ports', async (t) => {
  const client = await open(t);
  await client.register({ service: 'api', host: 'a', port: 80, attributes: { shard: 's1', critical: 'true' } });
  await client.register({ service: 'api', host: 'b', port: 80, attributes: PUBLIC });
  const set = client.services('api');
  const online = await set.wait(2, { timeout: 30_000 });
  const api = scalingo.Service.fromSet(set);
  assert.deepEqual({ ...api }, { name: 'api', isPublic: true, isCritical: true });
  assert.equal(api.all().length, 2);
  assert.equal(api.first(), api.all()[0]);
  assert.equal(api.first().hostname, 'a');
  assert.ok(api.all().includes(api.one()));
  assertPublicHost(api.all()[1]);
  assertPublicHost(scalingo.Host.fromInstance(online[1]));
  assert.equal(api.url('', '/x'), 'https://u:p%40@api.dev:443/x');
  const shard = api.shard('s1');
  assert.ok(!shard.isPublic);
  assert.equal(shard.one().hostname, 'a');
  assert.equal(shard.url('', '/x'), 'http://a:80/x');
  const emptyShard = api.shard('s2');
  assert.equal(emptyShard.first() ?? emptyShard.one(), null);
  const message = 'service api has no host online in shard "s2"';
  assert.throws(() => emptyShard.url(), { code: 'ERR_DISCOVER_NOT_FOUND', message });
  assert.equal(scalingo.Service.fromSet(set.filter({ attributes: { shard: 's1' } })).all().length, 1);
});

test('an argument of the wrong type is rejected with its name', async (t) => {
  const client = await open(t);
  const api = scalingo.Service.fromSet(client.services('api'));
  const code = { code: 'ERR_DISCOVER_INVALID_ARGUMENT' };
  assert.throws(() => scalingo.Service.fromSet({}), { ...code, message: 'set is {}; it must be a ServiceSet' });
  assert.throws(() => api.shard(1), code);
  assert.throws(() => api.url(80), code);
  assert.throws(() => scalingo.Host.fromInstance({ service: 'api' }), code);
  assert.throws(() => scalingo.Host.fromInstance({ service: 'api', id: 'a', host: 'a', port: '80', attributes: {} }), code);
});
