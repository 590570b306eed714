#!/usr/bin/env -S node --
// Starts a command line from its bundle (scripts/bundle.ts), with V8's compiled form of it: without that, half of a short command's time is
// compiling. A cache of another Node is no harm, it is not taken. Without the `--` above Node 20 takes an --env-file of ours as its own.
'use strict'

const { readFileSync, statSync } = require('node:fs')
const { join } = require('node:path')
const { Script } = require('node:vm')

const dist = join(__dirname, '../dist')
const directory = join(dist, 'src/bundle')
const bundlePath = (name) => join(directory, `${name}.cjs`)

function start(name, module_) {
  const age = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0
  // While one works on berth: tsc alone has run since.
  if (age(bundlePath(name)) < age(join(dist, '.tsbuildinfo')))
    return import(`../dist/src/${module_}.js`)
  load(name)
}

/** What a bundle exports; bundles load each other so. */
function load(name) {
  const path = bundlePath(name)
  let cachedData
  try {
    cachedData = readFileSync(join(directory, `${name}.cache`))
  } catch {
    // It starts without, slower.
  }
  // ASCII, as esbuild writes it: nothing to decode.
  const script = new Script(readFileSync(path, 'latin1'), { filename: path, cachedData })
  const loaded = { exports: {} }
  script.runInThisContext()(loaded.exports, require, loaded, path, directory)
  return loaded.exports
}

module.exports = { start, load }
if (require.main === module) start('berth', 'main')
