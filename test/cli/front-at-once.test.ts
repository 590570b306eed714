/** The claims of at-once.test.ts by way of native/front and a daemon. */
process.env['BERTH_TEST_FRONT'] = 'daemon'
await import('./at-once.test.ts')
