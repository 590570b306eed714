import type { Command } from 'commander'
import type { Context } from './context.ts'

/** The command line of runc: `berth oci ARGS` is `berth-oci ARGS`. */
export function define(command: Command, context: Context): void {
  command
    .argument('[arguments...]', 'as of berth-oci')
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (args: string[]) => {
      const [{ runOci }, { ownCaller }] = await Promise.all([
        import('../oci/program.ts'),
        import('../kernel/caller.ts'),
      ])
      context.exit(await runOci(args, 'berth oci', ownCaller()))
    })
    .addHelpText('after', '\nExample:\n  $ berth oci run --bundle ./bundle one\n')
}
