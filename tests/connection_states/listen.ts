// Prints the states of a connection and a lease until standard input ends: `listen URL PORT`.

import { once } from 'node:events';
import { connect } from 'libdiscover';

async function main(url: string, port: string): Promise<void> {
  const client = await connect(url);
  const connection = client.onConnection(({ state }) => console.log('connection', state));
  const lease = await client.register({ service: 'states', address: `127.0.0.1:${port}` });
  const released = new Promise<void>((resolve) => {
    lease.onStanding(({ standing }) => {
      console.log('standing', standing);
      if (standing === 'released') {
        resolve();
      }
    });
  });
  const states = client.services('states');
  process.stdin.resume();
  await once(process.stdin, 'end');
  const yes = (condition: boolean): string => (condition ? 'True' : 'False');
  console.log('reconnected', yes(client.metrics().reconnects > 0), yes(states.online().length > 0));
  connection.cancel();
  await lease.unregister();
  await released;
  await client.close();
}

const [url = '', port = ''] = process.argv.slice(2);
void main(url, port);
