#!/usr/bin/env node
// Starts the command line from its bundle (scripts/bundle.ts), with V8's compiled form of it: without that, half of a short command's time is
// compiling. A cache of another Node is no harm, it is not taken.
'use strict'

const { readFileSync, statSync } = require('node:fs')
const { join } = require('node:path')
const { Script } = require('node:vm')

/** The text of a CommonJS file as Node compiles it. */
function wrapped(path) {
  return `(function (exports, require, module, __filename, __dirname) {${readFileSync(path, 'utf8')}\n})`
}

function start() {
  const dist = join(__dirname, '../dist')
  const directory = join(dist, 'src/bundle')
  const path = join(directory, 'berth.cjs')
  const age = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0
  // While one works on berth: tsc alone has run since.
  if (age(path) < age(join(dist, '.tsbuildinfo'))) return import('../dist/src/main.js')
  let cachedData
  try {
    cachedData = readFileSync(join(directory, 'berth.cache'))
  } catch {
    // It starts without, slower.
  }
  new Script(wrapped(path), { filename: path, cachedData }).runInThisContext()(
    exports,
    require,
    module,
    path,
    directory,
  )
}

if (require.main === module) start()
else module.exports = { wrapped }
