import { describe } from '../base/fault.ts'
import {
  type Configuration,
  type ConfigurationChange,
  compareConfigurations,
  type LoadedConfiguration,
  type LoadOptions,
  loadConfiguration,
  withReloadable,
} from './config.ts'
import { checkFiles } from './config-check.ts'
import type { Log } from './log.ts'

/** Is told what is in force after a reload, and what of it has changed. */
export type ChangeListener = (
  values: Configuration,
  changes: readonly ConfigurationChange[],
) => void | Promise<void>

/** The configuration in force. A reload (SIGHUP) that fails leaves it as it is. */
export class LiveConfiguration {
  readonly #options: LoadOptions
  readonly #log: Log
  readonly #listeners: ChangeListener[] = []
  #loaded: LoadedConfiguration

  /** `loaded` is what the daemon has started with, by the same options. */
  constructor(options: LoadOptions, loaded: LoadedConfiguration, log: Log) {
    this.#options = options
    this.#loaded = loaded
    this.#log = log
  }

  get loaded(): LoadedConfiguration {
    return this.#loaded
  }

  get values(): Configuration {
    return this.#loaded.values
  }

  onChange(listener: ChangeListener): void {
    this.#listeners.push(listener)
  }

  /** Reads the files anew and tells the listeners, in their order; one that fails is no reason to leave out the others. False where nothing was taken over. */
  async reload(): Promise<boolean> {
    let after: LoadedConfiguration
    try {
      after = loadConfiguration(this.#options)
      const [problem] = checkFiles(after.values)
      if (problem !== undefined) throw new Error(problem)
    } catch (error) {
      this.#log.error('configuration not reloaded, the old one goes on', { error })
      return false
    }
    const changes = compareConfigurations(this.#loaded, after)
    this.#loaded = withReloadable(this.#loaded, after)
    for (const { key, takesEffect, before, after: now } of changes) {
      if (takesEffect === 'reload') this.#log.info('configuration changed', { key, before, now })
      else this.#log.warn('configuration changes at the next start', { key, before, now })
    }
    this.#log.info('configuration reloaded', { changes: changes.length })
    const effective = changes.filter(({ takesEffect }) => takesEffect === 'reload')
    for (const listener of this.#listeners) {
      try {
        await listener(this.#loaded.values, effective)
      } catch (error) {
        this.#log.error('a changed configuration is not in force', { error: describe(error) })
      }
    }
    return true
  }
}
