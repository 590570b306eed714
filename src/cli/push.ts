import type { Command } from 'commander'
import { Fault } from '../base/fault.ts'
import type { ImageStore } from '../image/store.ts'
import type { Context } from './context.ts'
import { openImages } from './image-store.ts'
import { interruptible } from './interrupt.ts'
import { examples, type Format, formatOption, option, printJson, refuse } from './output.ts'
import { parseCredentials } from './parse/credentials.ts'
import { progressView } from './progress.ts'

interface Given {
  allTags?: true
  allPlatforms?: true
  creds?: ReturnType<typeof parseCredentials>
  quiet?: true
  format: Format
}

export function define(command: Command, context: Context): void {
  command
    .argument('<image>', 'name or id')
    .argument('[destination...]', 'names at registries, where they are not the image’s own')
    .option('-a, --all-tags', 'all tags that a repository has here')
    .option(
      '--all-platforms',
      'the whole index that the image was pulled with; what is not here comes from where it was pulled',
    )
    .addOption(
      option('--creds <user:password>', 'in place of the login kept here', parseCredentials),
    )
    .option('-q, --quiet', 'no progress')
    .addOption(formatOption())
    .addHelpText(
      'after',
      `\nPrints each name with the digest it has at the registry. How registries are reached is configured as for pull.${examples(
        'berth push registry.example/team/app:1.0',
        'berth push app registry.example/team/app:1.0 registry.example/team/app:latest',
        'berth push --all-tags registry.example/team/app',
        'berth push --all-platforms debian registry.example/mirror/debian',
      )}`,
    )
    .action(async (image: string, destinations: string[], given: Given) => {
      const { store, changed } = await openImages(context)
      const { destinationOf, pushImage } = await import('../image/push.ts')
      const { pushIndex } = await import('../image/push-index.ts')
      const push = given.allPlatforms ? pushIndex : pushImage
      const wanted = given.allTags
        ? await allTags(store, image, destinations)
        : targets(store, image, destinations)
      // All are looked at before the first is sent.
      for (const [, destination] of wanted) destinationOf(destination)
      const view = progressView(given.quiet === true)
      const pushed: Awaited<ReturnType<typeof pushImage>>[] = []
      try {
        await interruptible(async (signal) => {
          for (const [source, destination] of wanted) {
            const options = { credentials: given.creds, progress: view.report, signal }
            const one = await push(store, source, destination, options)
            pushed.push(one)
            view.finish()
            await changed('push', one.id, one.name)
            if (given.format !== 'json') await context.print(`${one.name}@${one.digest}\n`)
          }
        })
      } finally {
        view.finish()
      }
      if (given.format === 'json') await printJson(context, pushed)
    })
  refuse(command, {
    '--disable-content-trust': 'berth signs nothing; sign with cosign',
    '--tls-verify': 'set skip_verify in certs.d/HOST/hosts.toml',
    '--authfile': 'set REGISTRY_AUTH_FILE',
    '--cert-dir': 'put the certificates into certs.d/HOST',
    '--digestfile': 'the digest is printed; with --format json for programs',
    '--compression-format': 'layers are pushed as they are',
    '--remove-signatures':
      'signatures are objects of their own at the registry, and are left alone',
    '--sign-by': 'berth signs nothing; sign with cosign',
    '--platform':
      'an image here is for one platform; name the image that is for it, or push --all-platforms',
  })
}

type Wanted = readonly (readonly [image: string, destination: string])[]

function targets(store: ImageStore, image: string, destinations: readonly string[]): Wanted {
  if (destinations.length > 0) return destinations.map((destination) => [image, destination])
  const { name } = store.catalog.resolve(image)
  if (name !== undefined) return [[image, name]]
  throw new Fault('INVALID_ARGUMENT', `${image} is an id: say under which name to push it`)
}

async function allTags(
  store: ImageStore,
  repository: string,
  destinations: readonly string[],
): Promise<Wanted> {
  if (destinations.length > 0) {
    throw new Fault('INVALID_ARGUMENT', 'option --all-tags pushes names as they are: give no other')
  }
  const { parseReference, repositoryOf } = await import('../image/reference.ts')
  const wanted = parseReference(repository)
  if (wanted.digest !== undefined || /:[^/]*$/.test(repository.replace(/^[^/]*\//, ''))) {
    throw new Fault('INVALID_ARGUMENT', 'option --all-tags takes a repository without tag')
  }
  const names = store.catalog
    .list()
    .flatMap((image) => image.names)
    .filter((name) => repositoryOf(parseReference(name)) === repositoryOf(wanted))
  if (names.length > 0) return names.sort().map((name) => [name, name])
  throw new Fault('NOT_FOUND', `no image here has a name in ${repositoryOf(wanted)}`)
}
