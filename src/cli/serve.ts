import type { Command } from 'commander'
import type { Context } from './context.ts'

export function define(command: Command, context: Context): void {
  command
    .description("Answer Kubernetes' Container Runtime Interface.")
    .option('--config <file>', 'configuration, with drop-ins in FILE.d (/etc/berth/config.toml)')
    .option('--socket <path>', 'where to listen, in place of the configuration’s `socket`')
    .addHelpText(
      'after',
      `
Examples:
  berth serve
  berth serve --config ./berth.toml --socket /tmp/berth.sock
  kubelet --container-runtime-endpoint unix:///run/berth/berth.sock …

SIGHUP reads the configuration anew, SIGUSR1 logs what is under way, SIGTERM ends. Pods and their containers
go on in any case. The guide is docs/kubernetes.md.`,
    )
    .action(async (given: { config?: string; socket?: string }) => {
      // Before the first file is read in the background: blobs are written and synced there, and four threads are few for several pulls.
      process.env['UV_THREADPOOL_SIZE'] ??= '16'
      const { serve } = await import('../cri/serve.ts')
      await serve(context.roots(), { file: given.config, socket: given.socket }, process.stderr)
    })
}
