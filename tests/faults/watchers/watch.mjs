// Watches and registers while the lab breaks things, in JavaScript; see README.md beside it. The
// package is the one built in this tree, named by LIBDISCOVER_NODE.

import { createRequire } from 'node:module';

const { connect } = createRequire(import.meta.url)(process.env.LIBDISCOVER_NODE);

function tell(kind, values = {}) {
  const t = Number(process.hrtime.bigint() / 1000n);
  process.stdout.write(`${JSON.stringify({ kind, t, ...values })}\n`);
}

/** One service, whose events are told as they come and whose snapshots at a pace. */
class Followed {
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
      tell('event', { service: this.#service, event: kind, id: instance.id, created: instance.created });
    }
  }

  tell() {
    const { version, state, revision, online } = this.#set.snapshot();
    if (version === this.#version) {
      return;
    }
    this.#version = version;
    const set = {};
    for (const { id, created, isSuspect: suspect, attributes } of online) {
      set[id] = { created, suspect, attributes };
    }
    tell('snapshot', { service: this.#service, state, revision, set });
  }
}

async function main() {
  const [url, host, port, count, pace, ...services] = process.argv.slice(2);
  const client = await connect(url);
  const leases = [];
  for (let number = 0; number < Number(count); number += 1) {
    const attributes = { language: 'node' };
    leases.push(await client.register({ service: 'members', port: Number(port) + number, host, attributes }));
  }
  const followed = services.map((service) => new Followed(client, service));
  const standings = new Map();
  tell('ready');

  const look = () => {
    followed.forEach((one) => one.tell());
    for (const lease of leases) {
      if (standings.get(lease.id) !== lease.standing) {
        standings.set(lease.id, lease.standing);
        tell('standing', { id: lease.id, standing: lease.standing });
      }
    }
  };
  const timer = setInterval(look, Number(pace));
  await new Promise((resolve) => {
    process.stdin.once('readable', resolve);
    process.stdin.once('end', resolve);
  });
  clearInterval(timer);
  look();
  if (client.metrics) {
    tell('metrics', { values: { ...client.metrics() } });
  }
  await client.close({ timeout: 8000 }).catch((error) => tell('left', { text: error.message }));
  process.stdin.destroy();
}

main().catch((error) => tell('error', { text: error.message }));
