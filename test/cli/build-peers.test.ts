/** Acceptance 2 of the images: what buildah and berth build of one Dockerfile is the same, and goes round by registry, skopeo and archives unchanged. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { writeBusybox } from '../lib/busybox.ts'
import { dockerRegistry } from '../lib/docker-registry.ts'
import { documentsOf } from '../lib/layout-of.ts'
import { needs } from '../lib/needs.ts'
import { treeLines } from '../lib/tree.ts'

needs(
  'root',
  'overlay',
  'cgroup2',
  'file:/bin/busybox',
  'program:buildah',
  'program:skopeo',
  'program:umoci',
  'program:docker-registry',
)

const { berth, nothingIsLeft } = berthOfFile()
const here = (name: string): string => join(berth.directory, name)
const TIMEOUT_MS = 150_000
const slow = { timeoutMs: TIMEOUT_MS }

// A directory that is there already, and that it copies into, belongs to --chown after buildah's COPY; not after docker's and ours.
const DOCKERFILE = `ARG TAG=latest
FROM localhost/busybox:\${TAG} AS build
ARG WHO=nobody
ENV GREETING="hello \${WHO:-you}" EMPTY=\${NONE:+x}
WORKDIR /src/app
COPY --chown=1000:50 src /src/fresh/copied
COPY src/*.txt /texts/
RUN echo "$GREETING" >made && chmod 4750 made && ln made again && rm ../fresh/copied/sub/deep/f
FROM localhost/busybox
COPY --from=build /src /src
ADD a.tar.gz /unpacked/
LABEL one=1 "two words"="x y"
ENV PATH=/bin:/usr/bin
EXPOSE 80 53/udp
VOLUME /data
USER user:staff
STOPSIGNAL SIGINT
ENTRYPOINT ["cat"]
CMD ["/src/app/made"]
`

const buildah = (...args: string[]): string =>
  execFileSync(
    'buildah',
    ['--root', here('b'), '--runroot', here('b-run'), '--storage-driver', 'vfs', ...args],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: TIMEOUT_MS },
  ).trim()

/** The tree of the one image of an OCI layout, copied by skopeo and unpacked by umoci. */
function unpacked(layout: string, name: string): string[] {
  const copy = `${here(name)}.layout:x`
  execFileSync('skopeo', ['copy', '-q', '--preserve-digests', `oci:${layout}`, `oci:${copy}`])
  execFileSync('umoci', ['unpack', '--image', copy, here(name)])
  const lines = treeLines(join(here(name), 'rootfs'))
  // When a step made a file is no matter of the Dockerfile.
  return lines.map((line) => line.replace(/ \d{18,19} /, ' '))
}

test('one Dockerfile, built by both: the same configuration and the same tree', async () => {
  writeBusybox(here('busybox.tar'), 'localhost/busybox:latest')
  await berth.ok(['load', '-i', here('busybox.tar')], slow)
  mkdirSync(here('context/src/sub/deep'), { recursive: true })
  writeFileSync(here('context/Dockerfile'), DOCKERFILE)
  for (const [path, text] of [
    ['a.txt', 'a'],
    ['b.txt', 'b'],
    ['sub/deep/f', 'f'],
    ['sub/g', 'g'],
  ] as const)
    writeFileSync(here(`context/src/${path}`), text)
  execFileSync('tar', ['-C', here('context/src'), '-czf', here('context/a.tar.gz'), 'sub'])
  const args = ['--build-arg', 'WHO=me', '-t', 'localhost/app:1']
  const id = await berth.ok(['build', '--network', 'none', ...args, here('context')], slow)
  buildah('pull', '-q', `oci-archive:${here('busybox.tar')}`)
  buildah('bud', '--isolation', 'chroot', '--layers', ...args, here('context'))
  buildah('push', '-q', 'localhost/app:1', `oci:${here('theirs')}:x`)
  const theirs = JSON.parse(
    execFileSync('skopeo', ['inspect', '--config', `oci:${here('theirs')}:x`], {
      encoding: 'utf8',
    }),
  ) as { config: Record<string, unknown>; architecture: string }
  const { Labels: theirLabels, ...theirConfig } = theirs.config
  const { config } = documentsOf(berth.root, id)
  const { Labels, ...rest } = config.config ?? {}
  assert.equal(rest, theirConfig)
  assert.equal(Labels, { one: '1', 'two words': 'x y' })
  assert.ok(theirLabels)
  await berth.ok(['save', '-q', '--format', 'oci-dir', '-o', here('ours'), 'localhost/app:1'], slow)
  assert.equal(unpacked(here('ours'), 'u-ours'), unpacked(here('theirs'), 'u-theirs'))
})

test('both go berth, registry, skopeo, archive and back to berth with their digests and trees', async () => {
  mkdirSync(here('registry'), { recursive: true })
  const registry = await dockerRegistry(here('registry'), 'round')
  try {
    mkdirSync(here(`certs.d/${registry.host}`), { recursive: true })
    await berth.ok(['load', '-q', '-i', here('theirs'), '--name', 'localhost/theirs:1'], slow)
    for (const [name, tree] of [
      ['localhost/app:1', 'u-ours'],
      ['localhost/theirs:1', 'u-theirs'],
    ] as const) {
      const there = `${registry.host}/${tree}:1`
      await berth.ok(['push', '-q', name, there], slow)
      const archive = `oci-archive:${here(`${tree}.tar`)}:${tree}`
      const how = ['copy', '-q', '--src-tls-verify=false', '--preserve-digests']
      execFileSync('skopeo', [...how, `docker://${there}`, archive])
      const id = async (image: string) =>
        (
          JSON.parse(await berth.ok(['image', 'inspect', image])) as { Id?: string; id?: string }[]
        )[0]
      const before = await id(name)
      await berth.ok(['rmi', '-f', name, there].slice(0, 3), slow)
      await berth.ok(
        ['load', '-q', '-i', here(`${tree}.tar`), '--name', `localhost/${tree}:back`],
        slow,
      )
      const after = await id(`localhost/${tree}:back`)
      assert.equal(after?.Id ?? after?.id, before?.Id ?? before?.id)
      const to = here(`${tree}-again`)
      await berth.ok(
        ['save', '-q', '--format', 'oci-dir', '-o', to, `localhost/${tree}:back`],
        slow,
      )
      assert.equal(
        unpacked(to, `${tree}-2`),
        treeLines(join(here(tree), 'rootfs')).map((line) => line.replace(/ \d{18,19} /, ' ')),
      )
    }
  } finally {
    await registry.stop()
  }
})

test('nothing is left behind', nothingIsLeft)

test.run()
