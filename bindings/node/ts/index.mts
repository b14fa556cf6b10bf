// Re-exports the CommonJS classes, so that `import` and `require` share them.
export * from './index.js';
