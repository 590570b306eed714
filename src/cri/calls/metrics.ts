import { Fault } from '../../base/fault.ts'

const soon = async (): Promise<never> => {
  throw new Fault('UNIMPLEMENTED', 'metrics lists')
}
export const listMetricDescriptors = soon
export const listPodSandboxMetrics = soon
export async function* streamPodSandboxMetrics(): AsyncIterable<never> {
  await soon()
}
