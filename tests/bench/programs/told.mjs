// How the programs in JavaScript speak: a line of JSON when they are ready, and one when they are asked; see
// told.rs.

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

export const now = () => Number(process.hrtime.bigint() / 1000n);

/** Done once all of it is written: what is longer than a pipe takes is cut off by an exit before that. */
export const tell = (values) =>
  new Promise((done) => {
    process.stdout.write(`${JSON.stringify(values)}\n`, done);
  });

const input = createInterface({ input: process.stdin });

export const theEnd = new Promise((done) => {
  input.once('line', done);
  input.once('close', done);
}).then(() => input.close());

/** KiB of memory that this process takes. */
export const resident = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);

/** The host of the instance with this number, the same in every language. */
export const host = (number) =>
  `10.${Math.floor(number / 62500)}.${Math.floor(number / 250) % 250}.${number % 250}`;

/** Does it with each number, 64 at a time. */
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
