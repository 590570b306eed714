#!/usr/bin/env node
// Starts a command line from its bundle (scripts/bundle.ts), with V8's compiled form of it: without that, half of a short command's time is
// compiling. A cache of another Node is no harm, it is not taken.
'use strict'

const { readFileSync, statSync } = require('node:fs')
const { join } = require('node:path')
const { Script } = require('node:vm')

function start(name, module_) {
  const dist = join(__dirname, '../dist')
  const directory = join(dist, 'src/bundle')
  const path = join(directory, `${name}.cjs`)
  const age = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0
  // While one works on berth: tsc alone has run since.
  if (age(path) < age(join(dist, '.tsbuildinfo'))) return import(`../dist/src/${module_}.js`)
  let cachedData
  try {
    cachedData = readFileSync(join(directory, `${name}.cache`))
  } catch {
    // It starts without, slower.
  }
  // ASCII, as esbuild writes it: nothing to decode.
  const script = new Script(readFileSync(path, 'latin1'), { filename: path, cachedData })
  script.runInThisContext()(exports, require, module, path, directory)
}

module.exports = { start }
if (require.main === module) start('berth', 'main')
