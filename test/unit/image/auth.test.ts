import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseChallenges } from '../../../src/image/auth.ts'

const challenges: [header: string, expected: [scheme: string, parameters: object][]][] = [
  ['Basic realm="x"', [['basic', { realm: 'x' }]]],
  ['basic', [['basic', {}]]],
  [
    'Bearer realm="https://a/t",service="s, t",scope="repository:a/b:pull,push"',
    [['bearer', { realm: 'https://a/t', service: 's, t', scope: 'repository:a/b:pull,push' }]],
  ],
  [
    'Negotiate, Basic realm=x, Bearer realm="y"',
    [
      ['basic', { realm: 'x' }],
      ['bearer', { realm: 'y' }],
    ],
  ],
  ['Bearer realm="a\\"b"', [['bearer', { realm: 'a"b' }]]],
  ['Bearer realm="unended', [['bearer', { realm: 'unended' }]]],
  ['Digest realm="x", nonce="y"', []],
  ['Bearer __proto__="x",realm="y"', [['bearer', { realm: 'y' }]]],
  ['', []],
  ['=====', []],
]
for (const [header, expected] of challenges) {
  test(`the challenge ${JSON.stringify(header)}`, () => {
    const got = parseChallenges(header)
    assert.equal(
      got.map(({ scheme }) => scheme),
      expected.map(([scheme]) => scheme),
    )
    for (const [i, [, parameters]] of expected.entries()) {
      for (const [key, value] of Object.entries(parameters)) {
        assert.is(got[i]?.parameters[key], value)
      }
    }
  })
}

test.run()
