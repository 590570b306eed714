/** The claims of run-signals.test.ts by way of native/front and a daemon. */
process.env['BERTH_TEST_FRONT'] = 'daemon'
await import('./run-signals.test.ts')
