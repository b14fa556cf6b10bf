// Builds the package in place with Rust and Node: the native module with cargo, its type declarations from the
// output of the Rust macros, then TypeScript, bundled into one file with esbuild.
//
//   CARGO_TARGET_DIR              cargo's target folder (default: the workspace's target)
//   LIBDISCOVER_BUILD_PROFILE     dev or release (default: release)
//   LIBDISCOVER_FEATURES          the backends, separated by commas: local,etcd,etcd2 (default: all)

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { bundle } from './bundle.mjs';

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(here, 'dist');
const target = resolve(here, process.env.CARGO_TARGET_DIR || '../../target');
const release = (process.env.LIBDISCOVER_BUILD_PROFILE || 'release') !== 'dev';
const types = join(target, 'napi-types');

mkdirSync(dist, { recursive: true });
mkdirSync(types, { recursive: true });
native();
writeFileSync(join(dist, 'libdiscover.d.ts'), declarations());
tsc('tsconfig.package.json');
bundle(dist);
tsc('tsconfig.examples.json');

function native() {
  const features = process.env.LIBDISCOVER_FEATURES;
  run('cargo', [
    'build',
    '--manifest-path',
    join(here, 'Cargo.toml'),
    ...(release ? ['--release'] : []),
    ...(features === undefined ? [] : ['--no-default-features', '--features', features]),
  ]);
  const library = {
    darwin: 'liblibdiscover_node.dylib',
    win32: 'libdiscover_node.dll',
  }[process.platform] ?? 'liblibdiscover_node.so';
  // Renamed into place, because a process that has the old file open must not see it change.
  const fresh = join(dist, `libdiscover.node.${process.pid}`);
  copyFileSync(join(target, release ? 'release' : 'debug', library), fresh);
  renameSync(fresh, join(dist, 'libdiscover.node'));
}

/** Returns the type declarations of the native module, from the output of the Rust macros. */
function declarations() {
  const lines = readFileSync(join(types, 'libdiscover-node'), 'utf8').trim().split('\n');
  const items = lines.map((line) => JSON.parse(line));
  const text = items.map(({ kind, name, js_doc: doc, def }) => {
    switch (kind) {
      case 'fn':
        return `${doc}export declare ${def};`;
      case 'interface':
        return `${doc}export interface ${name} {\n${def}\n}`;
      case 'struct': {
        const methods = items.find((item) => item.kind === 'impl' && item.name === name)?.def ?? '';
        return `${doc}export declare class ${name} {\n${methods}\n}`;
      }
      case 'impl':
        return '';
      default:
        throw new Error(`unknown kind of type declaration from the napi macros: ${kind}`);
    }
  });
  return `${text.filter(Boolean).join('\n')}\n`;
}

function tsc(project) {
  const compiler = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  run(process.execPath, [compiler, '-p', join(here, project)]);
}

function run(command, options) {
  const env = { ...process.env, CARGO_TARGET_DIR: target, NAPI_TYPE_DEF_TMP_FOLDER: types };
  const { status, error } = spawnSync(command, options, { stdio: 'inherit', env });
  if (status !== 0) {
    console.error(`libdiscover: ${command} failed${error ? `: ${error.message}` : ''}`);
    process.exit(1);
  }
}
