import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { changedBy, envOf, type RunConfig } from '../../../src/build/config.ts'
import { instruction } from '../../../src/build/parse.ts'

/** The configuration after the lines, from a base image's. */
function after(base: RunConfig, ...lines: string[]): RunConfig {
  let config = base
  let hasCommand = false
  for (const line of lines) {
    const step = instruction(line, 1)
    const env = envOf(config)
    const reading = { lookup: (name: string) => env.get(name), escaper: '\\' as const, hasCommand }
    const changed = changedBy(config, step, reading)
    assert.ok(changed, line)
    config = changed ?? config
    hasCommand ||= step.keyword === 'CMD'
  }
  return config
}

test('ENV replaces in place, and one line sees the values before it', () => {
  assert.equal(
    after({ Env: ['PATH=/bin', 'A=0'] }, 'ENV A=1 B=$A', 'ENV C "x  y"', 'ENV D=\'$A\' E="$A b"')
      .Env,
    ['PATH=/bin', 'A=1', 'B=0', 'C=x  y', 'D=$A', 'E=1 b'],
  )
})

test('WORKDIR is relative to the one before', () => {
  assert.is(after({}, 'WORKDIR a', 'WORKDIR ../b/', 'WORKDIR c').WorkingDir, '/b/c')
  assert.is(after({ WorkingDir: '/x' }, 'ENV Y=/z', 'WORKDIR $Y').WorkingDir, '/z')
})

test('a new ENTRYPOINT takes the base command away, but not one of its own', () => {
  assert.equal(after({ Cmd: ['old'] }, 'ENTRYPOINT ["e"]'), { Entrypoint: ['e'] })
  assert.equal(after({ Cmd: ['old'] }, 'CMD c d', 'ENTRYPOINT e'), {
    Cmd: ['/bin/sh', '-c', 'c d'],
    Entrypoint: ['/bin/sh', '-c', 'e'],
  })
})

test('SHELL is that of the shell forms after it; a list that is no JSON is a shell form', () => {
  assert.equal(after({}, 'SHELL ["/bin/bash", "-eu"]', 'CMD x').Cmd, ['/bin/bash', '-eu', 'x'])
  assert.equal(after({}, "CMD ['x']").Cmd, ['/bin/sh', '-c', "['x']"])
  assert.throws(() => after({}, 'SHELL bash'), /JSON/)
})

test('EXPOSE takes ranges and protocols, VOLUME a list or words, LABEL and the rest their values', () => {
  const config = after(
    { Labels: { a: '0' } },
    'EXPOSE 80 53/udp 90-91',
    'VOLUME ["/a b"]',
    'VOLUME /c /d',
    'LABEL a=1 "b c"="d e"',
    'USER u:g',
    'STOPSIGNAL SIGINT',
  )
  assert.equal(config, {
    Labels: { a: '1', 'b c': 'd e' },
    ExposedPorts: { '80/tcp': {}, '53/udp': {}, '90/tcp': {}, '91/tcp': {} },
    Volumes: { '/a b': {}, '/c': {}, '/d': {} },
    User: 'u:g',
    StopSignal: 'SIGINT',
  })
  for (const bad of ['EXPOSE 0', 'EXPOSE 99999', 'EXPOSE 9-8', 'EXPOSE x', 'EXPOSE 1:2'])
    assert.throws(() => after({}, bad), /no port/)
})

test('HEALTHCHECK with its times in nanoseconds', () => {
  const flags = '--interval=1m --timeout=1.5s --retries=3 --start-period=0s'
  assert.equal(after({}, `HEALTHCHECK ${flags} CMD a b`).Healthcheck, {
    Interval: 60_000_000_000,
    Timeout: 1_500_000_000,
    Retries: 3,
    StartPeriod: 0,
    Test: ['CMD-SHELL', 'a b'],
  })
  assert.equal(after({}, 'HEALTHCHECK cmd ["a"]').Healthcheck, { Test: ['CMD', 'a'] })
  assert.equal(after({}, 'HEALTHCHECK NONE').Healthcheck, { Test: ['NONE'] })
  for (const bad of ['--interval=x CMD a', '--foo=1 CMD a', 'a', 'CMD', 'NONE x'])
    assert.throws(() => after({}, `HEALTHCHECK ${bad}`))
})

test('ONBUILD keeps its text for the next build, and refuses what cannot be in one', () => {
  assert.equal(after({}, 'ONBUILD RUN a $b', 'ONBUILD COPY . /x').OnBuild, [
    'RUN a $b',
    'COPY . /x',
  ])
  for (const bad of ['ONBUILD RUN a', 'FROM a', 'MAINTAINER a', 'NONSENSE'])
    assert.throws(() => after({}, `ONBUILD ${bad}`))
})

test.run()
