/** A CNI network that needs nothing of the machine: its plugin gives addresses away and takes them back, each a directory. */
import { appendFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readFileIfAny } from '../../src/base/file.ts'
import type * as cri from '../../src/spec/cri.ts'
import type { CriDaemon, Given } from './cri.ts'

/** mkdir(1) is atomic: no address is given twice. */
const PLUGIN = (leases: string): string => `#!/bin/sh
leases='${leases}'
case "$CNI_COMMAND" in
VERSION)
  echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}' ;;
ADD)
  cat >/dev/null
  n=2
  while ! mkdir "$leases/10.77.0.$n" 2>/dev/null; do
    n=$((n + 1))
    if [ $n -gt 250 ]; then
      echo '{"cniVersion":"1.0.0","code":11,"msg":"no address is left"}'
      exit 1
    fi
  done
  echo "$CNI_CONTAINERID" >"$leases/10.77.0.$n/owner"
  echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"'"$CNI_NETNS"'"}],"ips":[{"address":"10.77.0.'$n'/24","interface":0}]}' ;;
DEL)
  cat >/dev/null
  for lease in "$leases"/*; do
    [ -f "$lease/owner" ] || continue
    [ "$(cat "$lease/owner")" = "$CNI_CONTAINERID" ] && rm -r "$lease"
  done
  exit 0 ;;
*)
  cat >/dev/null ;;
esac
`

export class FakeNetwork {
  readonly plugins: string
  readonly #leases: string

  constructor(directory: string, netConf: string) {
    this.plugins = join(directory, 'plugins')
    this.#leases = join(directory, 'leases')
    for (const path of [this.plugins, this.#leases]) mkdirSync(path)
    writeFileSync(join(this.plugins, 'fake'), PLUGIN(this.#leases), { mode: 0o755 })
    const conf = { cniVersion: '1.0.0', name: 'fake', plugins: [{ type: 'fake' }] }
    writeFileSync(join(netConf, '10-fake.conflist'), JSON.stringify(conf))
  }

  /** Of a daemon that is not yet started. */
  static of(daemon: CriDaemon): FakeNetwork {
    const network = new FakeNetwork(daemon.berth.directory, daemon.netConf)
    // The file ends with the table [network].
    appendFileSync(daemon.config, `plugin_dirs = ["${network.plugins}"]\n`)
    return network
  }

  /** The addresses that are given away, and the pod that has each. '' where that is just being written. */
  leases(): Map<string, string> {
    return new Map(
      readdirSync(this.#leases).map((address) => [
        address,
        readFileIfAny(join(this.#leases, address, 'owner'))?.trim() ?? '',
      ]),
    )
  }
}

/** What a pod's configuration needs for a network of its own. */
export const ownNetwork: Given<cri.PodSandboxConfig> = {
  linux: {
    securityContext: { namespaceOptions: { network: 'POD', pid: 'CONTAINER', ipc: 'POD' } },
  },
}
