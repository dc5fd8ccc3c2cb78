/** Tests run the TypeScript sources as ES modules; servers they need are started once per run by test/support. */
const quick = process.env['EVERT_TEST_QUICK'] === '1'

export default {
  rootDir: import.meta.dirname,
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  extensionsToTreatAsEsm: ['.ts'],
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      { jsc: { target: 'es2022', parser: { syntax: 'typescript' } }, module: { type: 'es6' } },
    ],
  },
  testEnvironment: '<rootDir>/test/support/environment.js',
  maxWorkers: 2,
  // Only what hangs takes this long, on the slowest machine too.
  testTimeout: 900_000,
  ...(quick
    ? {
        testPathIgnorePatterns: [
          '/node_modules/',
          '/test/postgres/',
          '/test/log/kafka',
          '/test/cli/',
          '/test/faults/',
          '/test/bridge',
        ],
      }
    : {
        globalSetup: '<rootDir>/test/support/global-setup.js',
        globalTeardown: '<rootDir>/test/support/global-teardown.js',
      }),
}
