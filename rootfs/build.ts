/** Packs the built-in image into an OCI image layout, without network: `npm run build:rootfs`. */
import { fileURLToPath } from 'node:url'
import { HELLO_CONFIG, helloEntries } from './hello.ts'
import { writeLayout } from './layout.ts'

const directory = fileURLToPath(new URL('images/hello', import.meta.url))
const [manifest] = writeLayout(directory, [
  { name: 'hello:latest', layers: [helloEntries()], config: HELLO_CONFIG },
])
process.stdout.write(`hello: ${manifest?.digest}\n`)
