import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseDockerfile } from '../../../src/build/parse.ts'
import { planStages, stageBefore } from '../../../src/build/plan.ts'

const steps = (text: string) =>
  parseDockerfile(text).instructions.map(({ keyword, text: rest, line }) => [keyword, rest, line])
const refused = (text: string, reason: RegExp) =>
  assert.throws(() => planStages(parseDockerfile(text)), reason)

test('lines are joined, comments and empty lines between them are nothing, and every step knows its line', () => {
  assert.equal(
    steps('\ufeff# first\n\nfrom a\nRUN one && \\\n  # why\n\n   two \\\r\n  three\r\n  env X=1\n'),
    [
      ['FROM', 'a', 3],
      ['RUN', 'one &&    two   three', 4],
      ['ENV', 'X=1', 9],
    ],
  )
  assert.equal(steps('FROM a\nRUN x \\'), [
    ['FROM', 'a', 1],
    ['RUN', 'x', 2],
  ])
})

test('the escape directive makes the backtick the character that continues and escapes', () => {
  const file = parseDockerfile('# escape=`\nFROM a\nRUN dir C:\\ `\n  && x')
  assert.is(file.escaper, '`')
  assert.equal(
    file.instructions.map(({ text }) => text),
    ['a', 'dir C:\\   && x'],
  )
  // After anything else it is a comment.
  assert.is(parseDockerfile('# a\n# escape=`\nFROM a').escaper, '\\')
  refused('# escape=x\nFROM a', /escape/)
  refused('# escape=`\n# escape=`\nFROM a', /twice/)
})

test("docker's own syntax is read as far as it is known; another one is a program that is not run", () => {
  assert.is(steps('# syntax=docker/dockerfile:1.7\nFROM a').length, 1)
  refused('# syntax=example.org/my/frontend\nFROM a', /example\.org/)
})

test('flags are those of the instructions that have some', () => {
  const [, copy, cmd] = parseDockerfile(
    'FROM a\nCOPY --from=b --chown=1:2 x y\nCMD --x=y z',
  ).instructions
  assert.equal(copy?.flags, [
    { name: 'from', value: 'b' },
    { name: 'chown', value: '1:2' },
  ])
  assert.is(copy?.text, 'x y')
  assert.equal([cmd?.flags, cmd?.text], [[], '--x=y z'])
})

test('what cannot be is refused with its line', () => {
  refused('', /no instructions/)
  refused('FROM a\nFORM b', /line 2: unknown instruction FORM/)
  refused('FROM a\nRUN', /line 2: RUN needs/)
  refused('RUN x\nFROM a', /line 1: RUN comes before/)
  refused('ARG x', /no FROM/)
  refused('FROM a as', /line 1/)
  refused('FROM a AS b c', /line 1/)
  refused('FROM a AS 1b', /1b/)
  refused('FROM --squash a', /line 1: FROM --squash/)
})

test('here-documents are refused by name, other uses of << are not', () => {
  for (const text of ['RUN <<EOF', 'RUN cat <<-"X" >f', 'COPY <<a <<b /d/', 'RUN 3<<EOF sh'])
    refused(`FROM a\n${text}\nEOF`, /line 2: here-documents/)
  assert.is(steps('FROM a\nRUN echo $((1<<2)) <<<x\nRUN ["a", "<<EOF"]').length, 3)
})

test('a stage is found by its name, the latest of several, or its number, among those before', () => {
  const plan = planStages(parseDockerfile('FROM a AS x\nFROM b\nFROM c AS X\nFROM d'))
  assert.is(stageBefore(plan, 'x', 3)?.index, 2)
  assert.is(stageBefore(plan, 'X', 2)?.index, 0)
  assert.is(stageBefore(plan, '1', 3)?.index, 1)
  assert.is(stageBefore(plan, '3', 3), undefined)
})

test.run()
