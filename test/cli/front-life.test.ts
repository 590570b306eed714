/** The claims of life.test.ts by way of native/front and a daemon. */
process.env['BERTH_TEST_FRONT'] = 'daemon'
await import('./life.test.ts')
