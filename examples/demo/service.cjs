// A service of the demo, in Node: `service.cjs PORT`. It updates an attribute on the line "update" of
// standard input, and unregisters at the end of standard input.
const { createInterface } = require('node:readline');
const { connect } = require('../../bindings/node');

async function main() {
  const client = await connect();
  const port = Number(process.argv[2]);
  const lease = await client.register({ service: 'shop', port, attributes: { language: 'Node' } });
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'update') {
      await lease.update({ language: 'Node', version: '2' });
    }
  }
  await client.close();
}

main().catch((error) => {
  console.error(`service.cjs: ${error.message}`);
  process.exitCode = 1;
});
