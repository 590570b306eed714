/** Small zstd streams: Node 20 has no encoder. */
const RAW = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, 3, 0x19, 0, 0, 0x61, 0x62, 0x63])
const SKIPPABLE = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2])

export const ZSTD_SEEDS: readonly Buffer[] = [
  RAW,
  Buffer.concat([SKIPPABLE, RAW]),
  Buffer.concat([RAW, RAW, SKIPPABLE]),
  // "hello hello hello world, hello\n" 50 times, as `zstd -19 --check` packs it.
  Buffer.from('KLUv/QRo7QAAmGhlbGxvIHdvcmxkLCBoZWxsbwoCAOwJ9f9wpQh0vvgB', 'base64'),
]
