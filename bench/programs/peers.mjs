// The same operations with the etcd client of npm; see README.md of the benchmarks. It does what the floor does, as its
// documentation shows, without a limit on the size of messages. PEERS names the directory of the package.
//
//     peers.mjs follow|register URL COUNT

import { createRequire } from 'node:module';

import { forEach, host, now, report, stopped } from './protocol.mjs';

const { Etcd3 } = createRequire(`${process.env.PEERS}/`)('etcd3');

const ALL = '/discover/services/';
const TTL = 15;

const open = (url) =>
  new Etcd3({ hosts: `http://${new URL(url).host}`, grpcOptions: { 'grpc.max_receive_message_length': -1 } });

async function follow(url, count) {
  const started = now();
  const known = new Map();
  const latencies = [];
  const put = (kv) => {
    const attributes = JSON.parse(kv.value.toString());
    if (attributes.t !== undefined) {
      latencies.push(now() - Number(attributes.t));
    }
    known.set(kv.key.toString(), attributes);
  };
  const client = open(url);
  const listed = await client.getAll().prefix(ALL).exec();
  listed.kvs.forEach((kv) => known.set(kv.key.toString(), JSON.parse(kv.value.toString())));
  const after = String(Number(listed.header.revision) + 1);
  for (let number = 0; number < count; number += 1) {
    const folder = `${ALL}bench-${number}/`;
    const watcher = await client.watch().prefix(folder).startRevision(after).create();
    watcher.on('put', put);
    watcher.on('delete', (kv) => known.delete(kv.key.toString()));
  }
  report({ started, ready: now() });
  await stopped;
  await report({ latencies, online: known.size });
  process.exit(0);
}

async function register(url, count) {
  const started = now();
  const client = open(url);
  const leases = [];
  await forEach(count, async (number) => {
    const lease = client.lease(TTL);
    await lease.put(`${ALL}bench-0/${host(number)}:1000`).value('null').exec();
    leases.push(lease);
  });
  report({ started, ready: now() });
  await stopped;
  await report({ registered: leases.length });
  process.exit(0);
}

const [task, url, count] = process.argv.slice(2);
await { follow, register }[task](url, Number(count));
