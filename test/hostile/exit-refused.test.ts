/** A filter that refuses even the end: whoever it holds ends all the same, and at once. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { needs } from '../lib/needs.ts'
import { ociOfFile } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox')

const { oci, nothingIsLeft } = ociOfFile()

for (const pidNamespace of ['its own', "the host's"]) {
  test(`a filter without execve and exit, in ${pidNamespace} PID namespace`, async () => {
    const id = pidNamespace === 'its own' ? 'own' : 'host'
    const bundle = oci.bundle(id, 'true', (spec) => {
      if (id === 'host') {
        spec.linux.namespaces = (spec.linux.namespaces ?? []).filter(({ type }) => type !== 'pid')
      }
      spec.linux.seccomp = {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [
          {
            names: ['execve', 'execveat', 'exit', 'exit_group'],
            action: 'SCMP_ACT_ERRNO',
            errnoRet: 38,
          },
        ],
      }
    })
    const { code, stderr } = await oci.run(['run', '--bundle', bundle, id])
    assert.is.not(code, 0)
    assert.match(stderr, /exec/, stderr)
    // Whose end the engine tells, if it has let any of it stand.
    await oci.run(['delete', '--force', id])
  })
}

test('nothing is left behind', nothingIsLeft)

test.run()
