// Registers an instance, sends the online addresses to its parent, and exits.

import { connect } from 'libdiscover';

const client = await connect(process.argv[2]);
await client.register({ service: 'web', address: '127.0.0.1:2' });
const online = await client.services('web').wait(2, { timeout: 20_000 });
process.send(online.map((instance) => instance.address).sort());
await client.close();
process.disconnect();
