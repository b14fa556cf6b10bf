// Bundles all modules into one file: finding and reading them one by one takes Node longer than running them.
//
//   node scripts/bundle.mjs FOLDER

import { realpathSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { buildSync } from 'esbuild';

const here = dirname(dirname(fileURLToPath(import.meta.url)));

export function bundle(folder) {
  const entry = { entryPoints: ['ts/index.ts'], absWorkingDir: here, target: 'es2022', platform: 'node' };
  buildSync({ ...entry, outfile: join(folder, 'index.js'), bundle: true, keepNames: true, format: 'cjs', logLevel: 'warning' });
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  bundle(resolve(process.argv[2]));
}
