// Packs the built files into two npm packages: the main package, and the package of this platform with the native
// module. npm installs the second if `os`, `cpu` and `libc` match.
//
//   node scripts/pack.mjs NATIVE STAGE OUT     NATIVE is the module that cargo built

import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const [native, stage, out] = process.argv.slice(2);
const { devDependencies, scripts, ...main } = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'));
const { version, license, engines } = main;
const platform = `libdiscover-${process.platform}-${process.arch}-gnu`;

rmSync(stage, { recursive: true, force: true });
const folder = begin('libdiscover', {
  ...main,
  // The two packages must have the same version.
  optionalDependencies: { [platform]: version },
});
cpSync(join(here, 'dist'), join(folder, 'dist'), {
  recursive: true,
  filter: (path) => !/\.node(\.|$)/.test(path),
});
copyFileSync(join(here, 'README.md'), join(folder, 'README.md'));
pack(folder);

const half = begin(platform, {
  name: platform,
  version,
  description: `The native module of libdiscover for ${process.platform}, ${process.arch}, glibc`,
  license,
  engines,
  os: [process.platform],
  cpu: [process.arch],
  libc: ['glibc'],
  main: 'libdiscover.node',
  files: ['libdiscover.node'],
});
copyFileSync(native, join(half, 'libdiscover.node'));
pack(half);

function begin(name, description) {
  const folder = join(stage, name);
  const licenses = ['LICENSE-APACHE', 'LICENSE-MIT'];
  mkdirSync(folder, { recursive: true });
  for (const file of licenses) {
    copyFileSync(join(here, file), join(folder, file));
  }
  // npm adds a license by itself only if there is exactly one.
  const whole = { ...description, files: [...description.files, ...licenses] };
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(whole, null, 2)}\n`);
  return folder;
}

function pack(folder) {
  const words = ['pack', folder, '--pack-destination', out, '--loglevel=error'];
  const { status } = spawnSync('npm', words, { stdio: ['ignore', 'ignore', 'inherit'] });
  if (status !== 0) {
    process.exit(1);
  }
}
