import { Client, credentials } from '@grpc/grpc-js'
import { criServices } from './wire.ts'

const ANSWER_MS = 10_000

/** Whether the daemon answers as a client would find it: a Version call over its own socket. */
export function checkAnswers(socket: string): Promise<void> {
  const method = criServices().RuntimeService['Version']
  if (!method) throw new TypeError('the service has no Version')
  const client = new Client(`unix:${socket}`, credentials.createInsecure())
  return new Promise<void>((resolve, reject) => {
    client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      {},
      { deadline: Date.now() + ANSWER_MS },
      (error) => (error ? reject(error) : resolve()),
    )
  }).finally(() => client.close())
}
