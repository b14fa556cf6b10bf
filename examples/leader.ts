// Takes part in the election of a leader until Enter is pressed: `leader PORT`.

import { createInterface } from 'node:readline';
import { type DiscoverEvent, connect } from 'libdiscover';

async function main(): Promise<void> {
  if (process.argv.length !== 3) {
    throw new Error('usage: leader PORT');
  }
  const port = Number(process.argv[2]);

  // Without a URL, the registry is the one named by DISCOVER_URL, else local://.
  const client = await connect();

  // Everybody who registers is a candidate; the oldest instance leads.
  const lease = await client.register({ service: 'worker', host: '127.0.0.1', port });

  // A leader is told at once, and again whenever it is another.
  const told = tell(client.services('worker').watch(), lease.address);

  // Do the leader's work, or wait for the turn; here, until Enter.
  await enter();

  // Closing unregisters us, and the next oldest leads.
  await client.close();
  await told;
}

async function tell(events: AsyncIterable<DiscoverEvent>, own: string): Promise<void> {
  for await (const event of events) {
    if (event.kind === 'leader' && event.instance) {
      const { address } = event.instance;
      console.log(address === own ? 'leading' : `following ${address}`);
    }
  }
}

/** Waits for a line, or for the end of the input. */
async function enter(): Promise<void> {
  for await (const _line of createInterface({ input: process.stdin })) {
    break;
  }
  process.stdin.destroy(); // Open, it would keep the process alive.
}

main().catch((error: Error) => {
  console.error(`leader: ${error.message}`);
  process.exit(1);
});
