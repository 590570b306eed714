import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isIdle } from '../../../src/network/idle.ts'

const ARGS = ['IgnoreUnknown=1', 'K8S_POD_NAME=one']
const config = (type: string, more: Record<string, unknown> = {}) => ({
  cniVersion: '1.0.0',
  name: 'net',
  type,
  prevResult: { cniVersion: '1.0.0', ips: [] },
  ...more,
})
const idle = (type: string, more?: Record<string, unknown>, args = ARGS) =>
  isIdle('ADD', config(type, more), args)

test('portmap without ports, bandwidth without limits and tuning without settings have nothing to do', () => {
  for (const type of ['portmap', 'bandwidth', 'tuning']) {
    assert.is(isIdle('ADD', config(type), ARGS), true, type)
    assert.is(isIdle('DEL', config(type), ARGS), true, type)
  }
  assert.ok(idle('portmap', { snat: true, runtimeConfig: { portMappings: [] } }))
})

test('what a pod or the configuration asks for is done by the plugin', () => {
  const port = { hostPort: 80, containerPort: 80, protocol: 'tcp' }
  assert.not(idle('portmap', { runtimeConfig: { portMappings: [port] } }))
  assert.not(idle('bandwidth', { runtimeConfig: { bandwidth: { ingressRate: 1 } } }))
  assert.not(idle('bandwidth', { ingressRate: 1000, ingressBurst: 1000 }))
  assert.not(idle('tuning', { sysctl: { 'net.core.somaxconn': '500' } }))
  assert.not(idle('tuning', { runtimeConfig: { mac: '02:00:00:00:00:01' } }))
  assert.not(idle('tuning', {}, [...ARGS, 'MAC=02:00:00:00:00:01']))
})

test('what only the plugin can judge is left to it', () => {
  assert.not(isIdle('CHECK', config('portmap'), ARGS))
  assert.not(isIdle('ADD', config('portmap', { prevResult: undefined }), ARGS), 'it refuses that')
  const unknown = config('bandwidth', { prevResult: undefined })
  assert.not(isIdle('DEL', unknown, ARGS), 'it looks for what an ADD has left')
  assert.not(idle('portmap', { externalSetMarkChain: 'A', markMasqBit: 1 }), 'and that')
  assert.not(idle('portmap', { snat: 'yes' }), 'and that')
  assert.not(idle('tuning', {}, ['K8S_POD_NAME=one']), 'and that')
  assert.not(idle('bridge'))
  assert.not(idle('firewall'))
  assert.not(idle('my-plugin'))
})

test.run()
