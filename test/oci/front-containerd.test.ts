/** The claims of containerd.test.ts by way of native/front and a daemon. */
process.env['BERTH_TEST_FRONT'] = 'daemon'
await import('./containerd.test.ts')
