/** A process that makes and starts a container of berth-oci, or takes it away, and is killed before its nth kernel call: `ROOT BUNDLE ID N create|start|delete`. */
import { ownCaller } from '../../src/kernel/caller.ts'
import { createContainer } from '../../src/oci/create.ts'
import { deleteContainer } from '../../src/oci/delete.ts'
import { placeOf } from '../../src/oci/record.ts'
import { startAndTell } from '../../src/oci/start.ts'
import { dieAt } from './faults.ts'
import { creation } from './oci.ts'

const [root = '', bundle = '', id = '', n = '', act = ''] = process.argv.slice(2)
const warn = (message: string): void => console.error(message)
const { calls } = dieAt(Number(n))
if (act === 'create') {
  const { launch } = await createContainer(creation(root, bundle, id))
  await launch.close()
} else if (act === 'start')
  await startAndTell(ownCaller(), placeOf(root, id), { notify: undefined, warn })
else await deleteContainer(ownCaller(), root, placeOf(root, id), { force: true, warn })
console.log(calls())
process.exit()
