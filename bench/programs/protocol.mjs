// The protocol of the programs in JavaScript: a line of JSON when they are ready, and one on request; see
// protocol.rs.

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

export const now = () => Number(process.hrtime.bigint() / 1000n);

/** Resolves once everything is written: an exit before that would cut off output larger than a pipe. */
export const report = (values) =>
  new Promise((done) => {
    process.stdout.write(`${JSON.stringify(values)}\n`, done);
  });

const input = createInterface({ input: process.stdin });

export const stopped = new Promise((done) => {
  input.once('line', done);
  input.once('close', done);
}).then(() => input.close());

/** Returns the resident memory of this process in KiB. */
export const resident = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);

/** Returns the host of an instance by number, the same in every language. */
export const host = (number) =>
  `10.${Math.floor(number / 62500)}.${Math.floor(number / 250) % 250}.${number % 250}`;

/** Calls `work` with each number, 64 at a time. */
export async function forEach(count, work) {
  let next = 0;
  const worker = async () => {
    while (next < count) {
      next += 1;
      await work(next - 1);
    }
  };
  await Promise.all(Array.from({ length: 64 }, worker));
}
