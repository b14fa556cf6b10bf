// The program under test of the fault lab in JavaScript; see README.md beside it. LIBDISCOVER_NODE names the
// package built in this tree.

import { createRequire } from 'node:module';

const { connect } = createRequire(import.meta.url)(process.env.LIBDISCOVER_NODE);

function report(kind, values = {}) {
  const t = Number(process.hrtime.bigint() / 1000n);
  process.stdout.write(`${JSON.stringify({ kind, t, ...values })}\n`);
}

/** One service: events are printed when they arrive, snapshots at an interval. */
class WatchedService {
  #service;
  #set;
  #version = -1;

  constructor(client, service) {
    this.#service = service;
    this.#set = client.services(service);
    this.#set.subscribe((event) => this.#onEvent(event));
  }

  #onEvent({ kind, instance }) {
    if (instance && ['up', 'update', 'down'].includes(kind)) {
      report('event', { service: this.#service, event: kind, id: instance.id, created: instance.created });
    }
  }

  reportSnapshot() {
    const { version, state, revision, online } = this.#set.snapshot();
    if (version === this.#version) {
      return;
    }
    this.#version = version;
    const set = {};
    for (const { id, created, isSuspect: suspect, attributes } of online) {
      set[id] = { created, suspect, attributes };
    }
    report('snapshot', { service: this.#service, state, revision, set });
  }
}

async function main() {
  const [url, host, port, count, interval, ...services] = process.argv.slice(2);
  const client = await connect(url);
  const leases = [];
  for (let number = 0; number < Number(count); number += 1) {
    const attributes = { language: 'node' };
    leases.push(await client.register({ service: 'members', port: Number(port) + number, host, attributes }));
  }
  const watched = services.map((service) => new WatchedService(client, service));
  const standings = new Map();
  report('ready');

  const reportAll = () => {
    watched.forEach((one) => one.reportSnapshot());
    for (const lease of leases) {
      if (standings.get(lease.id) !== lease.standing) {
        standings.set(lease.id, lease.standing);
        report('standing', { id: lease.id, standing: lease.standing });
      }
    }
  };
  const timer = setInterval(reportAll, Number(interval));
  await new Promise((resolve) => {
    process.stdin.once('readable', resolve);
    process.stdin.once('end', resolve);
  });
  clearInterval(timer);
  reportAll();
  if (client.metrics) {
    report('metrics', { values: { ...client.metrics() } });
  }
  await client.close({ timeout: 8000 }).catch((error) => report('left', { text: error.message }));
  process.stdin.destroy();
}

main().catch((error) => report('error', { text: error.message }));
