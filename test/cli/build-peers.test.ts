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
import { Podman } from '../lib/podman.ts'
import { treeLines } from '../lib/tree.ts'

needs(
  'root',
  'overlay',
  'cgroup2',
  'file:/bin/busybox',
  'program:buildah',
  'program:skopeo',
  'program:umoci',
  'program:podman',
  'program:conmon',
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

const LINE_TIME = / \d{18,19} /
const imageId = async (name: string): Promise<string> => {
  const [found] = JSON.parse(await berth.ok(['image', 'inspect', name])) as {
    image: { id: string }
  }[]
  return found?.image.id ?? ''
}

/** What berth gives away of an image that it holds: the tree that umoci unpacks. */
async function savedTree(name: string, copy: string): Promise<string[]> {
  const layout = here(`${copy}-saved`)
  await berth.ok(['save', '-q', '--format', 'oci-dir', '-o', layout, name], slow)
  return unpacked(layout, copy)
}

test('both go berth, registry, skopeo or podman, archive and back to berth with their digests and trees; podman runs them', async () => {
  mkdirSync(here('registry'), { recursive: true })
  const registry = await dockerRegistry(here('registry'), 'round')
  const podman = new Podman()
  try {
    await berth.ok(['load', '-q', '-i', here('theirs'), '--name', 'localhost/theirs:1'], slow)
    for (const [name, tree] of [
      ['localhost/app:1', 'u-ours'],
      ['localhost/theirs:1', 'u-theirs'],
    ] as const) {
      const there = `${registry.host}/${tree}:1`
      const id = await imageId(name)
      const lines = treeLines(join(here(tree), 'rootfs')).map((line) =>
        line.replace(LINE_TIME, ' '),
      )
      const pushed = await berth.ok(['push', '-q', name, there], slow)
      const inspect = ['inspect', '--tls-verify=false', '--format', '{{.Digest}}']
      const digest = execFileSync('skopeo', [...inspect, `docker://${there}`], { encoding: 'utf8' })
      assert.is(pushed, `${there}@${digest.trim()}`)
      const archive = here(`${tree}.tar`)
      const how = ['copy', '-q', '--src-tls-verify=false', '--preserve-digests']
      execFileSync('skopeo', [...how, `docker://${there}`, `oci-archive:${archive}:${tree}`])

      // podman, from the registry; it keeps layers unpacked and compresses them anew, which leaves the id what it is.
      const accept = ['--signature-policy', join(podman.directory, 'policy.json')]
      const pull = ['pull', '-q', '--tls-verify=false', ...accept, there]
      assert.is(`sha256:${(await podman.ok(pull)).trim()}`, id)
      assert.is(await podman.ok(['run', '--rm', '--user', '0', there]), 'hello me')
      await podman.ok(['save', '-q', '--format', 'oci-archive', '-o', here(`${tree}-p.tar`), there])
      await podman.ok(['rmi', there])
      // And what berth saves, in both formats.
      for (const format of ['docker-archive', 'oci-archive']) {
        const saved = here(`${tree}.${format}`)
        await berth.ok(['save', '-q', '--format', format, '-o', saved, name], slow)
        await podman.ok(['load', '-q', ...accept, '-i', saved])
        assert.is(await podman.ok(['run', '--rm', '--user', '0', name]), 'hello me')
        await podman.ok(['rmi', name])
      }

      await berth.ok(['rmi', '-f', name], slow)
      for (const [from, to] of [
        [archive, 'skopeo'],
        [here(`${tree}-p.tar`), 'podman'],
      ] as const) {
        const back = `localhost/${tree}-${to}:back`
        await berth.ok(['load', '-q', '-i', from, '--name', back], slow)
        assert.is(await imageId(back), id)
        assert.equal(await savedTree(back, `${tree}-${to}`), lines)
        // Not of an image that is still here: what comes next brings its layers itself.
        await berth.ok(['rmi', '-f', back], slow)
      }
      // From the registry again: the digest is the one that was pushed.
      const [fetched] = JSON.parse(
        await berth.ok(['pull', '-q', '--format', 'json', there], slow).then((one) => `[${one}]`),
      ) as { id: string; digest: string }[]
      assert.equal([fetched?.id, fetched?.digest], [id, digest.trim()])
    }
  } finally {
    await podman.destroy()
    await registry.stop()
  }
})

test('nothing is left behind', nothingIsLeft)

test.run()
